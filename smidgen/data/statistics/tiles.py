"""Recall bound of working in tiles: objects grow with the zoom, and some are cut by every tile that they touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from smidgen.data.statistics.object_table import ObjectTable, row_numbers
from smidgen.structures import Preprocessing


@dataclass(frozen=True, slots=True)
class TileStatistics:
    """tiles: of an image, on average. zoom: input pixels per pixel on disk, on average over images. whole, shown: share
    of objects that lie whole in a tile, and whose side at the input is at least `least_px`; bound: that are both.
    most_objects: in one tile, each object counted in one tile only.
    """

    tile_px: int
    tiles: float
    zoom: float
    whole: float
    shown: float
    bound: float
    most_objects: int


def tile_statistics(
    table: ObjectTable, tile_px: int, overlap: float, preprocessing: Preprocessing, least_px: float
) -> TileStatistics:
    """Square tiles of `tile_px` on disk, each of them resized as an image would be.

    overlap: of neighboring tiles, as a share of their side in [0, 1). The last tile of a row ends at the border; an
    image that is smaller than a tile is taken whole. table: in pixels of the images on disk.
    """
    if not 0 <= overlap < 1 or tile_px < 1:
        raise ValueError(f"expected tiles of at least 1 px and an overlap in [0, 1), got {tile_px} and {overlap}")
    zooms = _zooms(np.minimum(table.sizes_hw, tile_px), preprocessing)
    step = max(1.0, tile_px * (1 - overlap))
    number_hw = np.ceil(np.maximum(table.sizes_hw - tile_px, 0) / step).astype(np.int64) + 1
    whole, place_xy = _whole(table, tile_px, step)
    shown = table.sides_px * zooms[table.image] >= least_px
    return TileStatistics(
        tile_px=tile_px,
        tiles=float(number_hw.prod(axis=1).mean()) if len(number_hw) else 0.0,
        zoom=float(zooms.mean()) if len(zooms) else 1.0,
        whole=_share(whole),
        shown=_share(shown),
        bound=_share(whole & shown),
        most_objects=_fullest(table, place_xy),
    )


def _share(chosen: Bool[NDArray[np.bool_], " M"]) -> float:
    return float(chosen.mean()) if len(chosen) else 1.0


def _zooms(tiles_hw: Int[NDArray[np.int64], "B 2"], preprocessing: Preprocessing) -> NDArray[np.float64]:
    """Of each image's tiles: the geometric mean of both axes, whose rounding differs a little."""
    different, which = np.unique(tiles_hw, axis=0, return_inverse=True)
    resized = [preprocessing.resized_hw(int(height), int(width)) for height, width in different]
    zooms: NDArray[np.float64] = np.sqrt((np.array(resized).reshape(-1, 2) / different).prod(axis=1))
    return zooms[which.reshape(-1)]


def _whole(
    table: ObjectTable, tile_px: int, step: float
) -> tuple[Bool[NDArray[np.bool_], " M"], Int[NDArray[np.int64], "M 2"]]:
    """Whether an object lies whole in a tile, and the column and row of that which begins last before the object: if
    any tile holds it whole, this one does.
    """
    last_xy = np.maximum(table.sizes_hw[table.image, ::-1] - tile_px, 0)
    place_xy = np.floor(table.boxes_xyxy[:, :2] / step).astype(np.int64)
    at_border = table.boxes_xyxy[:, :2] >= last_xy
    place_xy = np.where(at_border, np.ceil(last_xy / step).astype(np.int64), place_xy)
    start_xy = np.minimum(place_xy * step, last_xy)
    return (table.boxes_xyxy[:, 2:] <= start_xy + tile_px).all(axis=1), place_xy


def _fullest(table: ObjectTable, place_xy: Int[NDArray[np.int64], "M 2"]) -> int:
    if len(table) == 0:
        return 0
    tiles = row_numbers(np.column_stack([table.image, place_xy]))
    return int(np.unique(tiles, return_counts=True)[1].max())
