"""How a large image is looked at in tiles: their size and overlap, flips and scales, merging, memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from smidgen.boxes.tile_merging import Merging
from smidgen.boxes.tiles import TilePlan
from smidgen.data.windows import PixelRules, WindowReader

GIBIBYTE = 2**30

TileChooser = Callable[[WindowReader, TilePlan], Bool[Tensor, " T"]]
"""Which tiles of an opened image deserve a look (True); None in its place looks at all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """tile_px: side of a tile in pixels of the image; the model sees each as an image of its own. overlap: what
    neighbors share, a share of the tile (0.2) or pixels ("200px"): at least the size of the largest object that must
    be seen whole. merging: what becomes of several detections of one object.

    whole_image: look once more at the whole image, reduced to the model's size, for what is larger than the overlap.
    flips: look at each tile mirrored, too. scales: sizes of the model's input, as factors of what it was trained on.
    memory_bytes: what tiles, network and readers may take above the model. pixels: how rasters become RGB.
    """

    tile_px: int = 1024
    overlap: float | str = 0.2
    merging: Merging = field(default_factory=Merging)
    whole_image: bool = False
    flips: bool = False
    scales: tuple[float, ...] = (1.0,)
    memory_bytes: int = 2 * GIBIBYTE
    pixels: PixelRules = field(default_factory=PixelRules)

    def __post_init__(self) -> None:
        if self.tile_px < 16:
            raise ValueError(f"expected tiles of at least 16 px, got {self.tile_px}; change --tile")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"expected scales above 0, such as 1.0,1.5, got {self.scales}; change --scales")
        _ = self.overlap_px  # which refuses what does not fit

    @property
    def overlap_px(self) -> int:
        """What neighbors share, in pixels of the image."""
        pixels = overlap_in_pixels(self.overlap, self.tile_px)
        if not 0 <= pixels < self.tile_px:
            raise ValueError(
                f"expected an overlap from 0 to below the tile's {self.tile_px} px, got {self.overlap!r} "
                f"({pixels} px); change --overlap or --tile"
            )
        return pixels

    @property
    def num_passes(self) -> int:
        """How often the model looks at each tile."""
        return len(self.scales) * (2 if self.flips else 1)

    def plan(self, image_hw: tuple[int, int]) -> TilePlan:
        """The tiles of an image of this size."""
        return TilePlan(image_hw, self.tile_px, self.overlap_px)

    def described(self) -> dict[str, Any]:
        """For predictions.json."""
        return {**asdict(self), "overlap_px": self.overlap_px, "scales": list(self.scales)}


def overlap_in_pixels(overlap: float | str, tile_px: int) -> int:
    """0.2 or "0.2": that share of the tile; "200px": pixels. Raises ValueError for anything else."""
    text = str(overlap).strip().lower()
    try:
        return int(text[:-2]) if text.endswith("px") else round(_share(text) * tile_px)
    except ValueError as error:
        raise ValueError(
            f"expected an overlap such as 0.2 (a share of the tile) or 200px, got {overlap!r}; change --overlap"
        ) from error


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise ValueError(text)
    return share


def memory_in_bytes(text: str) -> int:
    """Bytes of "2GiB", "1.5GB", "800MiB" or a plain number of bytes. Raises ValueError for anything else."""
    units = {"gib": 2**30, "mib": 2**20, "gb": 10**9, "mb": 10**6, "g": 2**30, "m": 2**20, "": 1}
    number = text.strip().lower().rstrip("bgim ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError) as error:
        raise ValueError(f"expected an amount of memory such as 2GiB or 800MiB, got {text!r}") from error
    if size <= 0:
        raise ValueError(f"expected memory above 0, got {text!r}")
    return size
