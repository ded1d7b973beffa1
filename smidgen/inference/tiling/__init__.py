"""Images of any size looked at in overlapping tiles: what is read, shown to the model, merged, and what it takes."""

from smidgen.data.windows import PixelRules, WindowReader, open_windows
from smidgen.inference.tiling.prediction import predict_tiled
from smidgen.inference.tiling.settings import TileChooser, Tiling, memory_in_bytes

__all__ = [
    "PixelRules",
    "TileChooser",
    "Tiling",
    "WindowReader",
    "memory_in_bytes",
    "open_windows",
    "predict_tiled",
]
