"""Where an object's tokens are: the cells of a pyramid at its place, and whether any of them is of some kind.

An object's cells on a level form a rectangle of rows and columns, so that "is any of its cells chosen?" is read from
running sums of the level's mask: the cost does not grow with the sizes of objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

CELLS_ACROSS = 2.0


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of one level over one image.

    stride: nominal pixels per cell. cell_wh: sides of a cell in pixels of the network's input. valid: cells that show
    the image and may answer.
    """

    stride: int
    cell_wh: tuple[float, float]
    valid: Bool[Tensor, "H W"]


@dataclass(frozen=True, slots=True)
class Homes:
    """The cells at each object's place, as rectangles of cells by level: first row, first column, row and column after
    the last (equal where there are none).
    """

    rectangles: Int[Tensor, "L M 4"]

    def any_of(self, masks: Sequence[Bool[Tensor, "H W"]]) -> Bool[Tensor, " M"]:
        """Whether some cell of the object is True in the masks of the levels."""
        return torch.stack([count_in(mask, rows) > 0 for mask, rows in zip(masks, self.rectangles, strict=True)]).any(0)

    def hold(self, level: Int[Tensor, " Q"], row: Int[Tensor, " Q"], column: Int[Tensor, " Q"]) -> Bool[Tensor, "Q M"]:
        """Whether these cells are at the objects' places."""
        top, left, bottom, right = self.rectangles[level].unbind(-1)
        row, column = row[:, None], column[:, None]
        return (top <= row) & (row < bottom) & (left <= column) & (column < right)


def homes_of(boxes_xyxy: Float[Tensor, "M 4"], grids: Sequence[Grid]) -> Homes:
    """The cells whose centers lie in the object's box, on the finest level and on every level of which two cells fit
    along its longer side (on coarser ones a center in the box is chance); an object without any takes the cell of the
    finest level that its center is in.
    """
    inside = torch.stack([centers_inside(boxes_xyxy, grid) for grid in grids])
    longest = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).amax(dim=1)
    strides = boxes_xyxy.new_tensor([grid.stride for grid in grids])
    fitting = (CELLS_ACROSS * strides[:, None] <= longest) | (strides == strides.min())[:, None]
    inside[..., 2:] = torch.where(fitting[..., None], inside[..., 2:], inside[..., :2])
    homeless = ~Homes(inside).any_of([grid.valid for grid in grids])
    inside[0] = torch.where(homeless[:, None], cells_around(boxes_xyxy, grids[0]), inside[0])
    return Homes(inside)


def centers_inside(boxes_xyxy: Float[Tensor, "M 4"], grid: Grid) -> Int[Tensor, "M 4"]:
    """The rectangle of the cells whose centers lie in the boxes (borders included), cut at the map."""
    size = boxes_xyxy.new_tensor(grid.cell_wh).repeat(2)
    left, top, right, bottom = (boxes_xyxy / size - 0.5).unbind(-1)
    first = torch.stack([top, left], dim=-1).ceil()
    after = torch.stack([bottom, right], dim=-1).floor() + 1
    return _cut(torch.cat([first, torch.maximum(first, after)], dim=-1), grid)


def cells_around(boxes_xyxy: Float[Tensor, "M 4"], grid: Grid) -> Int[Tensor, "M 4"]:
    """The one cell that the center of each box is in."""
    center = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    column, row = (center / center.new_tensor(grid.cell_wh)).floor().unbind(-1)
    rows, columns = grid.valid.shape
    # The image's last pixel may lie a hair beyond the last cell.
    row, column = row.clamp(0, rows - 1), column.clamp(0, columns - 1)
    return torch.stack([row, column, row + 1, column + 1], dim=-1).long()


def count_in(mask: Bool[Tensor, "H W"], rectangles: Int[Tensor, "M 4"]) -> Int[Tensor, " M"]:
    """Cells of each rectangle that are True."""
    sums = F.pad(mask.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    top, left, bottom, right = rectangles.unbind(-1)
    return sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]


def without_token(boxes_xyxy: Float[Tensor, "M 4"], homes: Homes, grids: Sequence[Grid]) -> Bool[Tensor, " M"]:
    """Objects that have no valid cell, or that share their only one, of the finest level, with an object nearer to its
    center: a cell can start one query.
    """
    valid = [count_in(grid.valid, rows) for grid, rows in zip(grids, homes.rectangles, strict=True)]
    number = torch.stack(valid).sum(dim=0)
    top, left, bottom, right = homes.rectangles[0].unbind(-1)
    single = (number == 1) & (valid[0] == 1) & ((bottom - top) * (right - left) == 1)
    return (number == 0) | (single & ~_nearest_to_its_cell(boxes_xyxy, homes.rectangles[0], grids[0], single))


def _nearest_to_its_cell(
    boxes_xyxy: Float[Tensor, "M 4"], rectangles: Int[Tensor, "M 4"], grid: Grid, among: Bool[Tensor, " M"]
) -> Bool[Tensor, " M"]:
    """Whether the object is the nearest to its cell of those `among`; of equally near ones the first."""
    cell = boxes_xyxy.new_tensor(grid.cell_wh)
    center = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    distance = (center - (rectangles[:, :2].flip(-1) + 0.5) * cell).norm(dim=-1)
    order = distance.argsort(stable=True)
    rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=order.device))
    index = rectangles[:, 0] * grid.valid.shape[1] + rectangles[:, 1]
    index = index.clamp(max=grid.valid.numel() - 1)
    first = torch.full((grid.valid.numel(),), len(order), device=order.device)
    return first.scatter_reduce(0, index[among], rank[among], "amin")[index] == rank


def _cut(rectangles: Float[Tensor, "M 4"], grid: Grid) -> Int[Tensor, "M 4"]:
    rows, columns = grid.valid.shape
    limit = rectangles.new_tensor([rows, columns, rows, columns])
    return torch.minimum(rectangles.clamp(min=0), limit).long()
