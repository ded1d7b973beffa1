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
class OverlappingCrops:
    """Cuts maps of one size into square crops, which join the batch, and merges what became of them.

    Made of views and copies of whole slices: no indices, no loop over crops, nothing that depends on the device.
    """

    rows: CropPlan
    columns: CropPlan

    @staticmethod
    def of(shape: tuple[int, int], size: int, rounding: Rounding = "exact") -> OverlappingCrops:
        """For maps of `shape` (rows, columns) and crops of `size` x `size` cells; serves every layer of a stage."""
        return OverlappingCrops(*(CropPlan.of(length, size, rounding) for length in shape))

    def split(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "P C u u"]:
        """Crops row by row of each image, image by image. A map of one crop's size is itself."""
        missing = (0, self.columns.missing, 0, self.rows.missing)
        padded = F.pad(features, missing) if any(missing) else features
        crops = _cut(_cut(padded, self.columns, 3), self.rows, 2)
        return crops.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def merge(self, crops: Float[Tensor, "P C u u"]) -> Float[Tensor, "B C H W"]:
        """The map whose cells are means over the crops that hold them: what `split` took apart, if nothing changed."""
        grid = (-1, len(self.rows.starts), len(self.columns.starts))
        placed = crops.unflatten(0, grid).permute(0, 3, 1, 4, 2, 5)
        merged = _joined(_joined(placed, self.columns, 4), self.rows, 2)
        return merged[..., : self.rows.length, : self.columns.length]


def _cut(features: Tensor, plan: CropPlan, dim: int) -> Tensor:
    """The axis `dim` as two: crops, and cells of a crop. All crops but the last are equally far apart: one view."""
    if plan.shares_nothing:
        return features.unflatten(dim, (len(plan.starts), plan.size))
    step, final = plan.size - plan.overlap, plan.starts[-1]
    regular = features.narrow(dim, 0, plan.starts[-2] + plan.size).unfold(dim, plan.size, step)
    return torch.cat([regular.movedim(-1, dim + 1), features.narrow(dim, final, plan.size).unsqueeze(dim)], dim)


def _joined(crops: Tensor, plan: CropPlan, dim: int) -> Tensor:
    """The opposite of `_cut`: cells in two crops become their mean."""
    if plan.shares_nothing:
        return crops.flatten(dim, dim + 1)
    regular, final = crops.narrow(dim, 0, len(plan.starts) - 1), crops.select(dim, -1)
    before = _joined_regularly(regular, plan.overlap, dim)
    shared, start = plan.last_overlap, plan.starts[-1]
    mean = before.narrow(dim, start, shared).lerp(final.narrow(dim, 0, shared), 0.5)
    return torch.cat([before.narrow(dim, 0, start), mean, final.narrow(dim, shared, plan.size - shared)], dim)


def _joined_regularly(crops: Tensor, overlap: int, dim: int) -> Tensor:
    """Crops (`dim`) of cells (`dim` + 1) that are equally far apart."""
    number, size = crops.shape[dim : dim + 2]
    if not overlap or number == 1:
        return crops.flatten(dim, dim + 1)
    heads, tails = crops.narrow(dim + 1, 0, overlap), crops.narrow(dim + 1, size - overlap, overlap)
    means = heads.narrow(dim, 1, number - 1).lerp(tails.narrow(dim, 0, number - 1), 0.5)
    heads = torch.cat([heads.narrow(dim, 0, 1), means], dim)
    body = torch.cat([heads, crops.narrow(dim + 1, overlap, size - 2 * overlap)], dim + 1)
    return torch.cat([body.flatten(dim, dim + 1), tails.select(dim, -1)], dim)
