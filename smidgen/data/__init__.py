"""Images and labels: readers of dataset layouts, augmentation, and loaders of training and evaluation batches."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smidgen.data.augmentation import Augmentation
from smidgen.data.tiled_training import TilingConfig

if TYPE_CHECKING:
    from smidgen.data.dataset import DetectionDataset as DetectionDataset
    from smidgen.data.dataset import Record as Record
    from smidgen.data.image_files import UnreadableImageError as UnreadableImageError
    from smidgen.data.image_files import read_image as read_image
    from smidgen.data.layouts import open_dataset as open_dataset
    from smidgen.data.loaders import evaluation_loader as evaluation_loader
    from smidgen.data.loaders import training_loader as training_loader
    from smidgen.data.notes import DatasetNotes as DatasetNotes
    from smidgen.data.object_counts import objects_per_image as objects_per_image
    from smidgen.data.sample_pictures import draw_samples as draw_samples
    from smidgen.data.sliding_windows import Tiling as Tiling
    from smidgen.data.soda_tiling import tile_dataset as tile_dataset
    from smidgen.data.tiled_dataset import TiledDataset as TiledDataset
    from smidgen.data.writing import write_dataset as write_dataset

# Public name -> module that defines it, imported on first use: the command line reads `Augmentation` without torch.
_PUBLIC: dict[str, str] = {
    "DatasetNotes": "smidgen.data.notes",
    "DetectionDataset": "smidgen.data.dataset",
    "Record": "smidgen.data.dataset",
    "TiledDataset": "smidgen.data.tiled_dataset",
    "Tiling": "smidgen.data.sliding_windows",
    "UnreadableImageError": "smidgen.data.image_files",
    "draw_samples": "smidgen.data.sample_pictures",
    "evaluation_loader": "smidgen.data.loaders",
    "objects_per_image": "smidgen.data.object_counts",
    "open_dataset": "smidgen.data.layouts",
    "read_image": "smidgen.data.image_files",
    "tile_dataset": "smidgen.data.soda_tiling",
    "training_loader": "smidgen.data.loaders",
    "write_dataset": "smidgen.data.writing",
}

__all__ = ["Augmentation", "TilingConfig", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.data' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
