"""Deformable sampling as a gather of four corners: for exported files whose runtime gets `grid_sample` wrong.

NVIDIA's TensorRT miscompiled GridSample in some versions (TensorRT issue 4813). Slower than every other method.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.nn.sampling_corners import CORNERS


def sample_with_gather(
    value: Float[Tensor, "B N heads dim"],
    shapes: Sequence[tuple[int, int]],
    locations: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads_times_dim"]:
    """`deformable_attention.sample_deformable`, level by level and corner by corner."""
    dtype, own_dtype = torch.promote_types(value.dtype, torch.float32), value.dtype
    value, locations, weights = (each.to(dtype) for each in (value, locations, weights))
    by_head = value.transpose(1, 2).flatten(0, 1)
    levels = by_head.split([rows * columns for rows, columns in shapes], dim=1)
    places = locations.transpose(1, 2).flatten(0, 1).unbind(2)
    shares = weights.transpose(1, 2).flatten(0, 1).unbind(2)
    arguments = zip(levels, shapes, places, shares, strict=True)
    output = torch.stack([_sample_level(*level) for level in arguments]).sum(0)
    return output.unflatten(0, (value.shape[0], value.shape[2])).transpose(1, 2).flatten(2).to(own_dtype)


def _sample_level(
    cells: Float[Tensor, "BH n dim"],
    shape: tuple[int, int],
    places: Float[Tensor, "BH Q P 2"],
    shares: Float[Tensor, "BH Q P"],
) -> Float[Tensor, "BH Q dim"]:
    rows, columns = shape
    # As numbers of the graph: a tensor of them would hold the sizes of the example image for ever.
    x, y = places[..., 0] * columns - 0.5, places[..., 1] * rows - 0.5
    left, top = x.floor(), y.floor()
    read = cells.new_zeros(())
    for down, right in CORNERS:
        row, column = top + down, left + right
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        share = shares * (1 - (y - row).abs()) * (1 - (x - column).abs()) * inside
        index = (row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)).long()
        read = read + _gathered(cells, index, share)
    return read


def _gathered(
    cells: Float[Tensor, "BH n dim"], index: Tensor, share: Float[Tensor, "BH Q P"]
) -> Float[Tensor, "BH Q dim"]:
    rows = cells.gather(1, index.flatten(1)[..., None].expand(-1, -1, cells.shape[2]))
    return (rows.unflatten(1, (share.shape[1], share.shape[2])) * share[..., None]).sum(2)
