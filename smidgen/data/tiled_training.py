"""Training on tiles of large images, cut while training: what may be set, as plain values.

Objects of a few pixels vanish when an aerial image is resized to a network's input. Cutting tiles beforehand doubles
the data on disk and freezes one grid; here tiles are cut when a batch asks for them, from another grid every epoch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TilingConfig:
    """All fields change results.

    size_px: side of a tile, in pixels of the image on disk; the model's resize rule applies to tiles as to images.
    overlap: what neighbors share, as a share of a tile's side; at least the largest object's size over the tile's, so
    that every object is whole in one tile. visibility: an object of which a tile shows less than this share of its box
    is ignored there: neither learned nor counted as background. Others are clipped. empty_share: of an epoch's tiles,
    so many show no object (fewer where there are fewer). rare_below: classes seen in less than this share of the tiles
    with objects are drawn more often, by the square root of what they lack (Gupta et al., "LVIS", CVPR 2019, appendix
    B: repeat factor sampling); 0 = all tiles alike. shifted: the grid of each image lies elsewhere in every epoch.
    mixed_images: the tiles of so many images are shuffled together; every loading process keeps them decoded.
    """

    size_px: int = 640
    overlap: float = 0.2
    visibility: float = 0.3
    empty_share: float = 0.1
    rare_below: float = 0.0
    shifted: bool = True
    mixed_images: int = 8

    def __post_init__(self) -> None:
        _require(self.size_px >= 1, "size_px", "at least 1 px", self.size_px)
        _require(0 <= self.overlap < 1, "overlap", "a share in [0, 1)", self.overlap)
        _require(0 <= self.visibility <= 1, "visibility", "a share in [0, 1]", self.visibility)
        _require(0 <= self.empty_share < 1, "empty_share", "a share in [0, 1)", self.empty_share)
        _require(0 <= self.rare_below <= 1, "rare_below", "a share in [0, 1]", self.rare_below)
        _require(self.mixed_images >= 1, "mixed_images", "at least 1", self.mixed_images)

    @property
    def overlap_px(self) -> int:
        """What neighbors share at least; below the tile's side."""
        return min(round(self.overlap * self.size_px), self.size_px - 1)


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"expected {expected} in data.tiling.{name}, got {value!r}")
