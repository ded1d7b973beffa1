"""Layers made for one square grid see a map of any size through overlapping crops, which are averaged where they meet.

Cross-DINO calls this CLAP; it lets Strip-MLP's strip layers, whose weights belong to one grid, serve detection. Both
axes are cut alike and on their own. The plan is the paper's equations 6 to 9 as they must be meant: as printed,
n = floor(W / u + 1/2) leaves gaps where W / u has a fraction below 1/2, and l = floor((n u - W) / (n - 3/2)) shares too
many cells. With D = n u - W cells to spare, `exact` takes n = ceil(W / u) crops of u cells that share
l = floor(D / (n - 1)), and lets the last one end where the map ends. `half_even` rounds as the code of MLP-DINO (IJCAI
2024, by the same authors) does, with one crop more, or one shared cell less, on exact ties. Either way every cell lies
in one or two crops of an axis, so that the weights of the average, 1 and 1/2, lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Rounding = Literal["exact", "half_even"]


@dataclass(frozen=True)
class CropPlan:
    """Where crops of `size` cells begin on an axis of `length` cells.

    Neighbors share `overlap` cells; the last crop ends with the axis and may share more with the one before it. A
    shorter axis is one crop with empty cells at its end.
    """

    length: int
    size: int
    overlap: int
    starts: tuple[int, ...]

    @staticmethod
    def of(length: int, size: int, rounding: Rounding = "exact") -> CropPlan:
        """The plan of one axis; `rounding` is a property of trained weights (see above)."""
        if length < 1 or size < 1:
            raise ValueError(f"expected at least one cell in the map and in a crop, got {length} and {size}")
        if length <= size:
            return CropPlan(length, size, 0, (0,))
        number, overlap = _number_and_overlap(length, size, rounding)
        starts = tuple(min(index * (size - overlap), length - size) for index in range(number))
        return CropPlan(length, size, overlap, starts)

    @property
    def missing(self) -> int:
        """Empty cells appended to an axis that is shorter than a crop."""
        return max(self.size - self.length, 0)

    @property
    def last_overlap(self) -> int:
        """Cells shared by the last two crops."""
        return self.starts[-2] + self.size - self.starts[-1] if len(self.starts) > 1 else 0

    @property
    def shares_nothing(self) -> bool:
        """Whether the crops, one after the other, are the axis."""
        return len(self.starts) * self.size == self.length + self.missing

    def counts(self) -> Int[Tensor, " cells"]:
        """How many crops hold each cell (empty ones included)."""
        change = torch.zeros(self.length + self.missing + 1, dtype=torch.long)
        for start in self.starts:
            change[start] += 1
            change[start + self.size] -= 1
        return change.cumsum(0)[:-1]


def _number_and_overlap(length: int, size: int, rounding: Rounding) -> tuple[int, int]:
    if rounding == "exact":
        number = ceil(length / size)
        return number, (number * size - length) // (number - 1)
    if rounding == "half_even":
        number = round(length / size + 0.5)
        return number, round((number * size - length) / (number - 1) - 0.5)
    raise ValueError(f"expected the rounding 'exact' or 'half_even', got {rounding!r}; change model.backbone.rounding")


@dataclass(frozen=True)
class _Axis:
    """A plan with the indices that cut and merge one axis of tensors.

    read: the cell in each place of all crops, one after the other. first, last: for each cell, its place in the first
    and in the last crop that holds it (the same one where there is only one).
    """

    plan: CropPlan
    read: Int[Tensor, " places"]
    first: Int[Tensor, " cells"]
    last: Int[Tensor, " cells"]

    @staticmethod
    def of(plan: CropPlan, device: torch.device) -> _Axis:
        # Made of ranges on the device: nothing is copied from the host, and a traced graph holds no constants.
        size, step, final = plan.size, plan.size - plan.overlap, plan.starts[-1]
        crop = torch.arange(len(plan.starts), device=device)
        cell = torch.arange(plan.length + plan.missing, device=device)
        starts = (crop * step).clamp(max=final)
        first = (torch.div(cell - size, step, rounding_mode="floor") + 1).clamp(0, len(plan.starts) - 1)
        last = torch.div(cell, step, rounding_mode="floor").clamp(max=max(len(plan.starts) - 2, 0))
        last = torch.where(cell >= final, len(plan.starts) - 1, last)
        read = (starts[:, None] + torch.arange(size, device=device)).flatten()
        first, last = (which * size + cell - (which * step).clamp(max=final) for which in (first, last))
        return _Axis(plan, read, first, last)

    def cut(self, features: Tensor, dim: int) -> Tensor:
        """All crops of this axis, one after the other."""
        return features if self.plan.shares_nothing else features.index_select(dim, self.read)

    def average(self, crops: Tensor, dim: int) -> Tensor:
        """Each cell's mean over the crops that hold it, without the empty cells."""
        if not self.plan.shares_nothing:
            crops = crops.index_select(dim, self.first).lerp(crops.index_select(dim, self.last), 0.5)
        return crops.narrow(dim, 0, self.plan.length)


@dataclass(frozen=True)
class OverlappingCrops:
    """Cuts maps of one size into square crops, which join the batch, and merges what became of them."""

    rows: _Axis
    columns: _Axis

    @staticmethod
    def of(
        shape: tuple[int, int], size: int, rounding: Rounding = "exact", device: torch.device | str = "cpu"
    ) -> OverlappingCrops:
        """For maps of `shape` (rows, columns) and crops of `size` x `size` cells; serves every layer of a stage."""
        rows, columns = (_Axis.of(CropPlan.of(length, size, rounding), torch.device(device)) for length in shape)
        return OverlappingCrops(rows, columns)

    def split(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "P C u u"]:
        """Crops row by row of each image, image by image. A map of one crop's size is itself."""
        rows, columns = self.rows.plan, self.columns.plan
        padded = F.pad(features, (0, columns.missing, 0, rows.missing)) if rows.missing or columns.missing else features
        crops = self.columns.cut(self.rows.cut(padded, -2), -1)
        crops = crops.unflatten(-1, (len(columns.starts), columns.size)).unflatten(-3, (len(rows.starts), rows.size))
        return crops.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def merge(self, crops: Float[Tensor, "P C u u"]) -> Float[Tensor, "B C H W"]:
        """The map whose cells are means over the crops that hold them: what `split` took apart, if nothing changed."""
        grid = (-1, len(self.rows.plan.starts), len(self.columns.plan.starts))
        placed = crops.unflatten(0, grid).permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        return self.rows.average(self.columns.average(placed, -1), -2)
