"""Submanifold 3x3 convolutions in plain PyTorch: computed at active cells only, a missing neighbor counting as zero.

Benjamin Graham, Martin Engelcke, Laurens van der Maaten, "3D Semantic Segmentation with Submanifold Sparse
Convolutional Networks", CVPR 2018; used by Chenhongyi Yang, Zehao Huang, Naiyan Wang, "QueryDet: Cascaded Sparse Query
for Accelerating High-Resolution Small Object Detection", CVPR 2022, Section 3.3. The numbers are those of dense
convolutions whose map is set to zero outside the active cells before the first layer and after every layer.

The official code runs spconv kernels, one tower after the other, whose weights are copied at the first call. Here the
weights are read at every call, one table of neighbors serves all towers and layers, the towers' first layer is one
matrix product over the features gathered once, a later layer is one batched product over towers, and a layer is
computed only where a key still depends on it. None of this changes a number. Where so much of a level is active that
gathering costs more than it saves, the masked dense convolutions run.

Measured on one thread of a CPU with AVX-512, 256 channels, microseconds per cell and layer: dense convolution 11; a
gather of 9 neighbors 0.6 and one matrix product over them 13 to 15, together 16 to 18 in chunks of 64 to 1024 cells
alike; 9 products with shifted rows 18. The products are the cost, not the gather: what saves is to compute fewer cells
in the last layers. Laying the weights of three towers out for a layer takes 1 ms and is done at every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.structures import Cells

# Share of active cells above which dense convolutions are faster.
DENSE_SHARE = 0.6
# Cells gathered at a time: on a CPU the gathered rows then stay in its cache, on a GPU they bound the memory.
GATHERED_CELLS = {"cpu": 256}
GATHERED_CELLS_ELSEWHERE = 16384
CENTER = 4


class Kernel(NamedTuple):
    """What one 3x3 or 1x1 convolution adds up."""

    weight: Float[Tensor, "O C k k"]
    bias: Float[Tensor, " O"]

    @staticmethod
    def of(convolution: nn.Conv2d) -> Kernel:
        """The layer's own tensors, no copies."""
        if convolution.bias is None or convolution.kernel_size not in ((1, 1), (3, 3)):
            raise ValueError(
                f"expected a 3x3 or 1x1 convolution with bias, got {convolution}: change the head's layers"
            )
        return Kernel(convolution.weight, convolution.bias)

    @property
    def reach(self) -> int:
        """Cells it sees to each side: 1 or 0."""
        return self.weight.shape[-1] // 2

    @property
    def matrix(self) -> Float[Tensor, "O kkC"]:
        """Weights in the order of gathered neighbors: neighbor by neighbor, row by row, then channels."""
        return self.weight.permute(0, 2, 3, 1).flatten(1)

    def __call__(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O H W"]:
        """The dense convolution."""
        return F.conv2d(features, self.weight, self.bias, padding=self.reach)


@dataclass(frozen=True, slots=True)
class Branch:
    """A tower of 3x3 convolutions, each followed by ReLU, and the predictions that read its end."""

    tower: tuple[Kernel, ...]
    predictions: tuple[Kernel, ...]

    @property
    def reach(self) -> int:
        """Cells to each side on which a prediction depends."""
        return len(self.tower) + max(prediction.reach for prediction in self.predictions)

    def shares_tower(self, other: Branch) -> bool:
        """Whether the towers are the same tensors."""
        pairs = zip(self.tower, other.tower, strict=False)
        return len(self.tower) == len(other.tower) and all(a.weight is b.weight for a, b in pairs)


def on_cells(
    features: Float[Tensor, "B C H W"],
    branches: Sequence[Branch],
    active: Cells,
    keys: Cells,
    dense_share: float = DENSE_SHARE,
) -> tuple[Tensor, ...]:
    """All branches' predictions at the keys, one (keys, channels) tensor for each prediction, branch by branch.

    active: where features exist; keys: the cells to answer, all of them active. dense_share: share of active cells
    above which masked dense convolutions are used.
    """
    merged = _with_distinct_towers(branches)
    if len(keys) == 0:
        return tuple(features.new_zeros((0, len(kernel.bias))) for branch in branches for kernel in branch.predictions)
    if len({tuple(kernel.weight.shape for kernel in branch.tower) for branch in merged}) > 1:
        return tuple(
            answer for branch in branches for answer in on_cells(features, [branch], active, keys, dense_share)
        )
    if len(active) > dense_share * active.batch * active.shape[0] * active.shape[1]:
        return masked_dense(features, merged, active, keys)
    return _sparse(features, merged, active, keys)


def masked_dense(
    features: Float[Tensor, "B C H W"], branches: Sequence[Branch], active: Cells, keys: Cells
) -> tuple[Tensor, ...]:
    """The same numbers from dense convolutions, with zeros outside the active cells before every layer."""
    everywhere = len(active) == active.batch * active.shape[0] * active.shape[1]
    mask = None if everywhere else active.mask()
    maps = [prediction for branch in branches for prediction in dense_maps(features, branch, mask)]
    return tuple(read(prediction, keys) for prediction in maps)


def dense_maps(
    features: Float[Tensor, "B C H W"], branch: Branch, mask: Bool[Tensor, "B H W"] | None = None
) -> tuple[Tensor, ...]:
    """The branch's predictions as maps; mask: True at cells that exist, None = all do."""
    shown = None if mask is None else mask[:, None].to(features.dtype)
    maps = features if shown is None else features * shown
    for kernel in branch.tower:
        maps = kernel(maps).relu_()
        maps = maps if shown is None else maps * shown
    return tuple(prediction(maps) for prediction in branch.predictions)


def read(maps: Float[Tensor, "B C H W"], cells: Cells | None) -> Float[Tensor, "n C"]:
    """Values at the cells; at all cells in order (a view where the memory allows) for None or as many as there are."""
    if cells is None or len(cells) == maps.shape[0] * maps.shape[2] * maps.shape[3]:
        return maps.permute(0, 2, 3, 1).flatten(0, 2)
    return cells.read(maps)


def neighbor_rows(cells: Cells) -> Int[Tensor, "n 9"]:
    """For each cell the rows of its 3x3 neighbors among the cells, row by row; n where there is none."""
    # A border of one cell around every image, so that no neighbor needs a check.
    height, width = cells.shape[0] + 2, cells.shape[1] + 2
    place = (cells.image * height + cells.row + 1) * width + cells.column + 1
    row_at = torch.full((cells.batch * height * width,), len(cells), device=place.device)
    row_at[place] = torch.arange(len(cells), device=place.device)
    step = torch.arange(-1, 2, device=place.device)
    return row_at[place[:, None] + (step[:, None] * width + step).flatten()]


def layer_tables(active: Cells, keys: Cells, reaches: Sequence[int]) -> list[Int[Tensor, "_ 9"]]:
    """One table of neighbors per layer: for each cell the layer computes, rows among those of the layer before.

    reaches: of each layer, first layer first, whose input are all active cells; the last layer computes the keys. A row
    one past the end stands for a missing neighbor. A layer computes what the layer after it reads, no more.
    """
    table = neighbor_rows(active)
    outputs = [torch.searchsorted(active.index, keys.index)]
    for reach in reversed(reaches[1:]):
        outputs.insert(0, _grown(outputs[0], table) if reach else outputs[0])
    tables = [table if len(outputs[0]) == len(active) else table[outputs[0]]]
    for before, rows in pairwise(outputs):
        tables.append(_among(before, len(active))[table[rows]])
    return tables


def _grown(rows: Int[Tensor, " m"], table: Int[Tensor, "n 9"]) -> Int[Tensor, " grown"]:
    """Rows of the cells and of their neighbors."""
    if len(rows) == len(table):
        return rows
    reached = torch.zeros(len(table) + 1, dtype=torch.bool, device=rows.device)
    reached[table[rows].flatten()] = True
    return reached[:-1].nonzero()[:, 0]


def _among(chosen: Int[Tensor, " m"], count: int) -> Int[Tensor, " rows"]:
    """Position of each of `count` rows, and of the missing one after them, among the chosen; m where not chosen."""
    position = torch.full((count + 1,), len(chosen), device=chosen.device)
    position[chosen] = torch.arange(len(chosen), device=chosen.device)
    return position


def _sparse(
    features: Float[Tensor, "B C H W"], branches: Sequence[Branch], active: Cells, keys: Cells
) -> tuple[Tensor, ...]:
    depth = len(branches[0].tower)
    last = max(kernel.reach for branch in branches for kernel in branch.predictions)
    tables = layer_tables(active, keys, [1] * depth + [last])
    # The row of zeros after the last is every missing neighbor.
    rows = F.pad(active.read(features), (0, 0, 0, 1))[None]
    for layer in range(depth):
        rows = _layer(rows, tables[layer], [branch.tower[layer] for branch in branches])
    ends = rows.expand(len(branches), -1, -1)
    return tuple(
        _layer(end[None], tables[-1], [kernel], relu=False)[0, :-1]
        for end, branch in zip(ends, branches, strict=True)
        for kernel in branch.predictions
    )


def _layer(
    rows: Float[Tensor, "S n C"], table: Int[Tensor, "m 9"], kernels: Sequence[Kernel], relu: bool = True
) -> Float[Tensor, "T m1 O"]:
    """One layer of T towers, over their own rows or (S = 1) over shared ones; a row of zeros follows the results."""
    weights = torch.stack([kernel.matrix for kernel in kernels])
    biases = torch.stack([kernel.bias for kernel in kernels])
    table = table if kernels[0].reach else table[:, CENTER : CENTER + 1]
    results = rows.new_zeros((len(kernels), len(table) + 1, biases.shape[1]))
    step = GATHERED_CELLS.get(rows.device.type, GATHERED_CELLS_ELSEWHERE)
    for start in range(0, len(table), step):
        answer = _product(_gathered(rows, table[start : start + step]), weights, biases)
        results[:, start : min(start + step, len(table))] = answer.relu_() if relu else answer
    return results


def _gathered(rows: Float[Tensor, "S n C"], table: Int[Tensor, "m k"]) -> Float[Tensor, "S m kC"]:
    """Each cell's neighbors side by side."""
    first = torch.arange(rows.shape[0], device=table.device)[:, None] * rows.shape[1]
    places = (first + table.flatten()).flatten()
    return rows.flatten(0, 1).index_select(0, places).view(rows.shape[0], len(table), -1)


def _product(
    gathered: Float[Tensor, "S m D"], weights: Float[Tensor, "T O D"], biases: Float[Tensor, "T O"]
) -> Float[Tensor, "T m O"]:
    if gathered.shape[0] == 1:
        stacked = F.linear(gathered[0], weights.flatten(0, 1), biases.flatten())
        return stacked.view(-1, *biases.shape).transpose(0, 1)
    return torch.baddbmm(biases[:, None], gathered, weights.mT)


def _with_distinct_towers(branches: Sequence[Branch]) -> list[Branch]:
    """Neighboring branches that read the same tower (a shared trunk) as one, so that it runs once."""
    merged = [branches[0]]
    for branch in branches[1:]:
        if branch.shares_tower(merged[-1]):
            merged[-1] = Branch(branch.tower, merged[-1].predictions + branch.predictions)
        else:
            merged.append(branch)
    return merged
