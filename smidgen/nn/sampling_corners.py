"""Which four cells a bilinear sample reads, in levels with a border of zeros that makes masks needless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

BORDER = 2
"""Cells of zeros around a level: two, so that a sample moved to just outside its level has no corner inside it."""

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column) steps from a sample's upper left corner to its four corners, in the order used everywhere."""


@dataclass(frozen=True, slots=True)
class BorderedLevels:
    """Levels with their borders, one after the other in one table. S = levels x points, level by level.

    wh: columns and rows of each sample's level without border. stride: cells in a row of the bordered level.
    start: the bordered level's first row in the table. steps: table rows from the upper left corner to each corner.
    last: the last table row that can be an upper left corner.
    """

    wh: Float[Tensor, "S 2"]
    stride: Int[Tensor, " S"]
    start: Int[Tensor, " S"]
    steps: Int[Tensor, "4 S"]
    last: int

    @staticmethod
    def of(shapes: Sequence[tuple[int, int]], num_points: int, dtype: torch.dtype) -> BorderedLevels:
        """The geometry of `num_points` samples in each level of `shapes` (rows, columns)."""
        bordered = bordered_shapes(shapes)
        starts = list(accumulate((rows * columns for rows, columns in bordered), initial=0))
        last = starts.pop() - bordered[-1][1] - 2
        wh = torch.tensor([shape[::-1] for shape in shapes], dtype=dtype)
        stride = torch.tensor([columns for _, columns in bordered], dtype=torch.int32)
        steps = torch.stack([stride * down + right for down, right in CORNERS], dim=-1)
        start = torch.tensor(starts, dtype=torch.int32)
        wh, stride, start, steps = (each.repeat_interleave(num_points, 0) for each in (wh, stride, start, steps))
        return BorderedLevels(wh, stride, start, steps.T.contiguous(), last)

    def locate(self, locations: Float[Tensor, "Q S 2"]) -> tuple[Int[Tensor, "Q S"], Float[Tensor, "Q S 2"]]:
        """Table row of each sample's upper left corner, and (x, y) of the sample from there, in [0, 1) cells."""
        places = torch.addcmul(locations.new_tensor(BORDER - 0.5), locations, self.wh)
        torch.minimum(places.clamp_(min=0), self.wh + BORDER, out=places)
        whole = places.floor()
        column, row = whole.to(torch.int32).unbind(-1)
        upper_left = (row * self.stride).add_(column).add_(self.start)
        # Changes only what is not a number: it must come out as such, not crash as an index outside the table.
        return upper_left.clamp_(0, self.last), places.sub_(whole)

    def corners(self, upper_left: Int[Tensor, "Q S"]) -> Int[Tensor, "Q 4 S"]:
        """Table rows of the four corners."""
        return upper_left[:, None] + self.steps


def corner_weights(fraction: Float[Tensor, "Q S 2"], weights: Float[Tensor, "Q S"]) -> Float[Tensor, "Q 4 S"]:
    """Bilinear weights of the four corners times the samples' own weights."""
    x, y = fraction.unbind(-1)
    shares = weights.new_empty(weights.shape[0], 4, weights.shape[1])
    lower = weights * y
    for first, share in ((0, weights - lower), (2, lower)):
        torch.mul(share, x, out=shares[:, first + 1])
        torch.sub(share, shares[:, first + 1], out=shares[:, first])
    return shares


def empty_table(like: Tensor, shapes: Sequence[tuple[int, int]], dtype: torch.dtype) -> Float[Tensor, "cells dim"]:
    """Zeros for all cells of one head with their borders; dim is the last axis of `like`."""
    num_cells = sum(rows * columns for rows, columns in bordered_shapes(shapes))
    return like.new_zeros(num_cells, like.shape[-1], dtype=dtype)


def fill_table(
    table: Float[Tensor, "cells dim"], value: Float[Tensor, "N dim"], shapes: Sequence[tuple[int, int]]
) -> None:
    """Write the levels of `value` into an `empty_table`, or over another head's, each inside its border."""
    for outer, level in zip(level_maps(table, bordered_shapes(shapes)), level_maps(value, shapes), strict=True):
        outer[BORDER:-BORDER, BORDER:-BORDER] = level


def add_corner(
    value: Float[Tensor, "*heads N dim"],
    table: Float[Tensor, "*heads cells dim"],
    shapes: Sequence[tuple[int, int]],
    corner: tuple[int, int],
) -> None:
    """Add to each cell of `value` the row of `table` that has it as the given corner: the transpose of reading."""
    top, left = BORDER - corner[0], BORDER - corner[1]
    maps = zip(level_maps(value, shapes), level_maps(table, bordered_shapes(shapes)), shapes, strict=True)
    for level, outer, (rows, columns) in maps:
        level += outer[..., top : top + rows, left : left + columns, :]


def bordered_shapes(shapes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(rows, columns) of each level with its border."""
    return [(rows + 2 * BORDER, columns + 2 * BORDER) for rows, columns in shapes]


def level_maps(
    cells: Float[Tensor, "*heads N dim"], shapes: Sequence[tuple[int, int]]
) -> list[Float[Tensor, "*heads H_l W_l dim"]]:
    """Views of the levels as maps."""
    levels = cells.split([rows * columns for rows, columns in shapes], dim=-2)
    return [level.unflatten(-2, shape) for level, shape in zip(levels, shapes, strict=True)]
