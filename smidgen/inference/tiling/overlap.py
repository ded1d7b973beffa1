"""How much neighboring tiles share: what was asked for, else what the objects need that the model was trained on.

An object no larger than the overlap is whole in some tile, whatever its place (smidgen/boxes/tiles.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from smidgen.structures import ObjectSizes

UNKNOWN_SHARE = 0.2
"""Of the tile, where nothing is known about the objects."""
LEAST_PX = 16
"""Where nothing else is asked for: around small objects, too, something must be seen."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """pixels: of the image. reason: why so many, for people."""

    pixels: int
    reason: str

    def __str__(self) -> str:
        return f"tiles overlap by {self.pixels} px ({self.reason})"


def chosen_overlap(asked: float | str | None, objects: ObjectSizes | None, tile_px: int) -> Overlap:
    """asked: as in `overlap_in_pixels`, None = it follows from `objects`. Raises ValueError for what does not fit."""
    if asked is not None:
        return Overlap(_within(overlap_in_pixels(asked, tile_px), asked, tile_px), "as asked")
    if objects is None:
        share = f"{UNKNOWN_SHARE:.0%} of a tile: the model does not know how large its objects are; --overlap tells it"
        return Overlap(round(UNKNOWN_SHARE * tile_px), share)
    wanted = max(math.ceil(objects.percentile_99_px), LEAST_PX)
    known = f"99% of {objects.count} objects in training are at most {objects.percentile_99_px:g} px long"
    if wanted > tile_px // 2:
        return Overlap(tile_px // 2, f"half a tile: {known}; use a larger --tile, or --whole-image")
    return Overlap(wanted, known)


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


def _within(pixels: int, asked: float | str, tile_px: int) -> int:
    if not 0 <= pixels < tile_px:
        raise ValueError(
            f"expected an overlap from 0 to below the tile's {tile_px} px, got {asked!r} ({pixels} px); "
            "change --overlap or --tile"
        )
    return pixels
