"""Deformable sampling with one `grid_sample` per level: the reference form, good for few queries and for export."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def sample_with_grid(
    value: Float[Tensor, "B N heads dim"],
    shapes: Sequence[tuple[int, int]],
    locations: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads_times_dim"]:
    """`deformable_attention.sample_deformable`, level by level, so that only one level's samples are alive at once."""
    dtype, own_dtype = torch.promote_types(value.dtype, torch.float32), value.dtype
    value, locations, weights = value.to(dtype), locations.to(dtype), weights.to(dtype)
    levels = value.split([rows * columns for rows, columns in shapes], dim=1)
    grids = (2 * locations - 1).unbind(3)
    arguments = zip(levels, shapes, grids, weights.unbind(3), strict=True)
    output = torch.stack([_sample_level(*level) for level in arguments]).sum(0)
    return output.view(value.shape[0], value.shape[2] * value.shape[3], -1).transpose(1, 2).to(own_dtype)


def _sample_level(
    value: Float[Tensor, "B n heads dim"],
    shape: tuple[int, int],
    grid: Float[Tensor, "B Q heads P 2"],
    weights: Float[Tensor, "B Q heads P"],
) -> Float[Tensor, "BH dim Q"]:
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, shape)
    # Points before queries: a sum over the few points then runs along many queries.
    grid = grid.permute(0, 2, 3, 1, 4).flatten(0, 1)
    samples = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return (samples * weights.permute(0, 2, 3, 1).flatten(0, 1)[:, None]).sum(2)


def _count_flops(*_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return 2 * 5 * math.prod(out_shape)


GRID_SAMPLE_FLOPS: dict[Any, Callable[..., int]] = {torch.ops.aten.grid_sampler_2d: _count_flops}
"""`FlopCounterMode(custom_mapping=...)` that counts grid_sample (PyTorch counts nothing there) and the weighting of its
samples by the rule of `deformable_attention.sampling_macs`."""
