"""Overlapping tiles of an image, and the part of the image that each of them answers for.

Windows of one size are laid along each side of the image, neighbors overlapping by at least a given number of pixels;
the last one is moved back to end at the border. Between two neighbors the middle of what they share is the border of
their *cores*. So the cores partition the image, and an object no larger than the overlap whose center lies in a core
lies wholly in that core's window: nobody else needs to be asked about it.

Coordinates are continuous, as everywhere: the pixel column x spans [x, x + 1]. Nothing here reads pixels; training,
prediction and evaluation cut images by the same geometry.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def starts_px(extent_px: int, window_px: int, stride_px: int) -> list[int]:
    """Where windows begin along one side of an image; the last one ends at its border."""
    last = max(extent_px - window_px, 0)
    return [*range(0, last, stride_px), last]


@dataclass(frozen=True, slots=True)
class TiledSide:
    """One side of an image under tiles: `extent_px` long, in windows of `window_px` that share at least `overlap_px`.

    A side shorter than a window has one window, as long as the side.
    """

    extent_px: int
    window_px: int
    overlap_px: int

    def __post_init__(self) -> None:
        if self.extent_px < 1 or not 0 <= self.overlap_px < self.window_px:
            raise ValueError(
                f"expected an image of at least 1 px and an overlap below the tile's size, got {self.extent_px} px "
                f"under tiles of {self.window_px} px that overlap by {self.overlap_px} px; change the tile or overlap"
            )

    @property
    def length_px(self) -> int:
        """Of every window."""
        return min(self.window_px, self.extent_px)

    @property
    def starts(self) -> Int[Tensor, " windows"]:
        """Where the windows begin, ascending."""
        return torch.tensor(starts_px(self.extent_px, self.window_px, self.window_px - self.overlap_px))

    @property
    def core_borders(self) -> Float[Tensor, " borders"]:
        """0, the middles of what two neighbors share, and the extent: core i spans [borders[i], borders[i + 1])."""
        starts = self.starts.double()
        middles = (starts[1:] + starts[:-1] + self.length_px) / 2
        return torch.cat([starts.new_zeros(1), middles, starts.new_full((1,), self.extent_px)])

    def owners(self, centers: Float[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Index of the window whose core holds each coordinate; what lies outside the image is its outer window's."""
        middles = self.core_borders[1:-1].to(centers.device)
        return torch.bucketize(centers.double().contiguous(), middles, right=True)

    def is_shared(self, low: Float[Tensor, " m"], high: Float[Tensor, " m"]) -> Bool[Tensor, " m"]:
        """Whether more than one window sees some of [low, high]."""
        starts = self.starts.double().to(low.device)
        begun = torch.bucketize(high.double().contiguous(), starts[1:])  # shared strips that begin before `high`
        ended = torch.bucketize(
            low.double().contiguous(), starts[:-1] + self.length_px, right=True
        )  # ... that end before `low`
        return begun > ended


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles of an image of `image_hw` pixels, row by row and from left to right within a row.

    tile_px: side of a tile; on an image's side that is shorter, tiles are as long as the image. overlap_px: what
    neighbors share at least, below tile_px. Errors: ValueError where they do not fit.
    """

    image_hw: tuple[int, int]
    tile_px: int
    overlap_px: int

    def __post_init__(self) -> None:
        _ = self.rows, self.columns  # which refuse what does not fit

    @property
    def rows(self) -> TiledSide:
        """Along the height."""
        return TiledSide(self.image_hw[0], self.tile_px, self.overlap_px)

    @property
    def columns(self) -> TiledSide:
        """Along the width."""
        return TiledSide(self.image_hw[1], self.tile_px, self.overlap_px)

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every window."""
        return self.rows.length_px, self.columns.length_px

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Number of tile rows and columns."""
        return len(self.rows.starts), len(self.columns.starts)

    def __len__(self) -> int:
        rows, columns = self.grid_hw
        return rows * columns

    @property
    def windows_xyxy(self) -> Int[Tensor, "T 4"]:
        """The pixels of each tile, all of `tile_hw`."""
        height, width = self.tile_hw
        tops, lefts = self.rows.starts, self.columns.starts
        return _grid(lefts, tops, lefts + width, tops + height)

    @property
    def cores_xyxy(self) -> Float[Tensor, "T 4"]:
        """What each tile answers for: half-open rectangles that partition the image; each lies in its window."""
        x, y = self.columns.core_borders, self.rows.core_borders
        return _grid(x[:-1], y[:-1], x[1:], y[1:])

    def owners(self, boxes_xyxy: Float[Tensor, "m 4"]) -> Int[Tensor, " m"]:
        """Index of the tile whose core holds the center of each box."""
        x, y = ((boxes_xyxy[:, :2].double() + boxes_xyxy[:, 2:].double()) / 2).unbind(1)
        return self.rows.owners(y) * self.grid_hw[1] + self.columns.owners(x)

    def in_overlap(self, boxes_xyxy: Float[Tensor, "m 4"]) -> Bool[Tensor, " m"]:
        """Whether more than one tile sees any part of a box."""
        left, top, right, bottom = boxes_xyxy.unbind(1)
        return self.columns.is_shared(left, right) | self.rows.is_shared(top, bottom)


def _grid(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """Rectangles of all pairs of an interval of y (outer) and one of x (inner), xyxy."""
    shape = (len(top), len(left))
    sides = (left[None], top[:, None], right[None], bottom[:, None])
    return torch.stack([side.expand(shape) for side in sides], dim=-1).reshape(-1, 4)
