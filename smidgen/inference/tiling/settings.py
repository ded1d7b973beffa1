"""How a large image is looked at in tiles: their size and overlap, flips and scales, merging, memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from smidgen.boxes.tile_merging import Merging
from smidgen.boxes.tiles import TilePlan
from smidgen.data.windows import PixelRules, WindowReader
from smidgen.inference.tiling.overlap import Overlap, chosen_overlap
from smidgen.structures import ObjectSizes

GIBIBYTE = 2**30

TileChooser = Callable[[WindowReader, TilePlan], Bool[Tensor, " T"]]
"""Which tiles of an opened image deserve a look (True); None in its place looks at all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """tile_px: side of a tile in pixels of the image; the model sees each as an image of its own. overlap: what
    neighbors share, a share of the tile (0.2) or pixels ("200px"): at least the size of the largest object that must
    be seen whole; None: as `objects` are, those that the model was trained on. merging: what becomes of several
    detections of one object.

    whole_image: look once more at the whole image, reduced to the model's size, for what is larger than the overlap.
    flips: look at each tile mirrored, too. scales: sizes of the model's input, as factors of what it was trained on.
    memory_bytes: what tiles, network and readers may take above the model. pixels: how rasters become RGB.
    """

    tile_px: int = 1024
    overlap: float | str | None = None
    merging: Merging = field(default_factory=Merging)
    whole_image: bool = False
    flips: bool = False
    scales: tuple[float, ...] = (1.0,)
    memory_bytes: int = 2 * GIBIBYTE
    pixels: PixelRules = field(default_factory=PixelRules)
    objects: ObjectSizes | None = None

    def __post_init__(self) -> None:
        if self.tile_px < 16:
            raise ValueError(f"expected tiles of at least 16 px, got {self.tile_px}; change --tile")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ValueError(f"expected scales above 0, such as 1.0,1.5, got {self.scales}; change --scales")
        _ = self.overlap_px  # which refuses what does not fit

    @property
    def chosen_overlap(self) -> Overlap:
        """What neighbors share, and why."""
        return chosen_overlap(self.overlap, self.objects, self.tile_px)

    @property
    def overlap_px(self) -> int:
        """What neighbors share, in pixels of the image."""
        return self.chosen_overlap.pixels

    def for_model(self, model: Any) -> Tiling:
        """With the sizes of the objects that `model` was trained on, where it knows them and none are given."""
        return self if self.objects else replace(self, objects=getattr(model, "object_sizes", None))

    @property
    def num_passes(self) -> int:
        """How often the model looks at each tile."""
        return len(self.scales) * (2 if self.flips else 1)

    def plan(self, image_hw: tuple[int, int]) -> TilePlan:
        """The tiles of an image of this size."""
        return TilePlan(image_hw, self.tile_px, self.overlap_px)

    def described(self) -> dict[str, Any]:
        """For predictions.json; the overlap as it was asked for, else why it is what it is."""
        told = {name: value for name, value in asdict(self).items() if name != "objects"}
        overlap = self.chosen_overlap.reason if self.overlap is None else self.overlap
        return {**told, "overlap": overlap, "overlap_px": self.overlap_px, "scales": list(self.scales)}


def memory_in_bytes(text: str) -> int:
    """Bytes of "2GiB", "1.5GB", "800MiB" or a plain number of bytes. Raises ValueError for anything else."""
    units = {"gib": 2**30, "mib": 2**20, "gb": 10**9, "mb": 10**6, "g": 2**30, "m": 2**20, "": 1}
    number = text.strip().lower().rstrip("bgim ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise ValueError(
            f"expected an amount of memory such as 2GiB or 800MiB, got {text!r}; change --memory"
        ) from error
    if size <= 0:
        raise ValueError(f"expected memory above 0, got {text!r}; change --memory")
    return size
