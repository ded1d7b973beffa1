"""Where an epoch's tiles lie on the images of a data set, and which of them show objects.

The grid is that of `smidgen.boxes.tiles`, begun anywhere within its first step: tiles at the borders are moved back
inside, so that every pixel is in a tile and none is padded. Found for all objects at once by sorting, since an image
may have a hundred thousand of them and a thousand tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smidgen.boxes.tiles import TiledSide, starts_px
from smidgen.data.dataset import Record
from smidgen.data.geometry import Window
from smidgen.data.tiled_training import TilingConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TileTable:
    """T tiles of N images. image: index of each tile's image, ascending. corners: T x 2, (top, left) in its pixels.
    weights: how often a tile with objects is to be drawn, relative to the others; 0 where it shows none.
    """

    image: Ints
    corners: Ints
    weights: Floats

    def __len__(self) -> int:
        return len(self.image)

    def chosen(self, rows: Ints) -> TileTable:
        """Only these tiles, in this order."""
        return TileTable(self.image[rows], self.corners[rows], self.weights[rows])

    def window(self, row: int, size_hw: tuple[int, int], config: TilingConfig) -> Window:
        """A tile of an image of `size_hw`; as long as the image where that is shorter than a tile."""
        top, left = (int(place) for place in self.corners[row])
        return Window(top, left, *(min(config.size_px, side) for side in size_hw))


def tile_table(records: Sequence[Record], config: TilingConfig, shifts: Ints) -> TileTable:
    """All tiles of all images. shifts: N x 2, how far the grid of each image is moved down and right, in pixels."""
    grids = [_grid(record, config, shift.tolist()) for record, shift in zip(records, shifts, strict=True)]
    counts = np.array([len(corners) for corners, _, _ in grids], dtype=np.int64)
    seen_in = _joined([first + tiles for first, (_, tiles, _) in zip(np.cumsum(counts) - counts, grids, strict=True)])
    labels = _joined([labels for _, _, labels in grids])
    corners = np.concatenate([np.zeros((0, 2), dtype=np.int64), *(corners for corners, _, _ in grids)])
    image = np.repeat(np.arange(len(grids)), counts)
    return TileTable(image, corners, _weights(seen_in, labels, len(corners), config.rare_below))


def shifted_starts(side: TiledSide, shift_px: int) -> list[int]:
    """Where windows begin along a side when the first whole step begins at `shift_px`; the first still begins at 0."""
    shift = min(shift_px, side.extent_px - side.length_px)
    following = starts_px(side.extent_px - shift, side.window_px, side.window_px - side.overlap_px)
    return [*([0] if shift else []), *(shift + start for start in following)]


def _grid(record: Record, config: TilingConfig, shift: Sequence[int]) -> tuple[Ints, Ints, Ints]:
    """Corners of an image's tiles; and for each sight of an object, at least as visible as is asked, tile and label."""
    sides = [TiledSide(extent, config.size_px, config.overlap_px) for extent in record.size_hw]
    rows, columns = (np.array(shifted_starts(side, by)) for side, by in zip(sides, shift, strict=True))
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    boxes = record.boxes_xyxy.astype(np.float64)
    which, row, column = _touched(boxes, (rows, columns), (sides[0].length_px, sides[1].length_px))
    shares = np.ones(len(which))
    for starts, place, side, axis in ((rows, row, sides[0], 1), (columns, column, sides[1], 0)):
        low, high = boxes[which, axis], boxes[which, axis + 2]
        inside = np.minimum(high, starts[place] + side.length_px) - np.maximum(low, starts[place])
        shares *= inside / (high - low)
    visible = shares >= config.visibility
    return corners, (row * len(columns) + column)[visible], record.labels[which[visible]]


def _touched(boxes_xyxy: Floats, starts: tuple[Ints, Ints], lengths: tuple[int, int]) -> tuple[Ints, Ints, Ints]:
    """Every pair of a box and a tile that share area: index of the box, row and column of the tile."""
    top, rows = _span(boxes_xyxy[:, 1], boxes_xyxy[:, 3], starts[0], lengths[0])
    left, columns = _span(boxes_xyxy[:, 0], boxes_xyxy[:, 2], starts[1], lengths[1])
    counts = rows * columns
    which = np.repeat(np.arange(len(boxes_xyxy)), counts)
    number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, top[which] + number // columns[which], left[which] + number % columns[which]


def _span(low: Floats, high: Floats, starts: Ints, length: int) -> tuple[Ints, Ints]:
    """Of the windows along a side that share more than a point with [low, high]: the first, and how many."""
    first = np.searchsorted(starts + length, low, side="right")
    return first, np.searchsorted(starts, high, side="left") - first


def _weights(seen_in: Ints, labels: Ints, num_tiles: int, rare_below: float) -> Floats:
    """1 for tiles that show an object, more for those that show a rare class, 0 for the rest."""
    weights = np.zeros(num_tiles)
    if not len(labels):
        return weights
    weights[seen_in] = 1.0
    pairs = np.unique(np.stack([seen_in, labels]), axis=1)
    shares = np.bincount(pairs[1]) / np.count_nonzero(weights)
    repeats = np.sqrt(rare_below / np.maximum(shares, np.finfo(np.float64).tiny))
    np.maximum.at(weights, pairs[0], repeats[pairs[1]])
    return weights


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
