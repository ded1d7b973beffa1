"""Triton kernel that sums deformable samples: one program per block of queries of one head.

Zhu et al.: Deformable DETR, ICLR 2021, equation 3. Levels follow each other in registers, so that nothing as large as
all samples is ever written out.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from smidgen.nn.sampling_triton_tiles import (
    SIZES,
    address_channels,
    block_of_queries,
    constants_of,
    is_cell,
    launch,
    linear_weight,
    place_samples,
    softmax_terms,
    split_cell,
    weight_samples,
)


def launch_forward(
    value: Tensor,
    sizes: tuple[int, ...],
    places: Tensor,
    scores: Tensor,
    reference: Tensor | None,
    output: Tensor,
    compute: torch.dtype,
) -> None:
    """Fill `output`. All tensors are contiguous; arithmetic is in `compute`."""
    tensors = [value, places, scores, places if reference is None else reference, output]
    launch(forward_kernel, tensors, sizes, scores, **constants_of(value, scores, reference, compute))


@triton.jit(do_not_specialize=SIZES)
@no_type_check
def forward_kernel(
    value, places, scores, reference, output, sizes, num_queries, num_cells,
    heads: tl.constexpr, dim: tl.constexpr, levels: tl.constexpr, points: tl.constexpr, reference_size: tl.constexpr,
    queries: tl.constexpr, dim_padded: tl.constexpr, levels_padded: tl.constexpr, points_padded: tl.constexpr,
    compute: tl.constexpr,
):  # fmt: skip
    """Weighted sum of a block's samples, written in the dtype of `output`."""
    image, head, query, row, exists = block_of_queries(num_queries, heads, queries)
    point, lane = tl.arange(0, points_padded), tl.arange(0, dim_padded)
    sampled = exists[:, None] & (point < points)[None, :]
    top, total = softmax_terms(
        scores, row, exists, levels, points, reference_size, levels_padded, points_padded, compute
    )  # fmt: skip
    summed = tl.zeros([queries, points_padded, dim_padded], compute)
    cells = image * num_cells
    for level in tl.static_range(levels):
        rows, columns = sizes[2 * level], sizes[2 * level + 1]
        sample = row[:, None] * (levels * points) + level * points + point[None, :]
        weight = weight_samples(scores, sample, sampled, top, total, reference_size, compute)
        x, y, _, _ = place_samples(
            places, reference, sample, query * levels + level, sampled, exists, rows, columns,
            points, reference_size, compute,
        )  # fmt: skip
        left, x = split_cell(x, columns)
        upper, y = split_cell(y, rows)
        for corner in tl.static_range(4):
            right, down = corner % 2, corner // 2
            readable = sampled & is_cell(left + right, columns) & is_cell(upper + down, rows)
            address = address_channels(cells, left + right, upper + down, columns, head, lane, heads, dim)
            read = tl.load(value + address, mask=readable[:, :, None] & (lane < dim)[None, None, :], other=0.0)
            share = weight * linear_weight(x, right) * linear_weight(y, down)
            summed += share[:, :, None] * read.to(compute)
        cells += rows * columns
    outcome = row[:, None] * dim + lane[None, :]
    tl.store(output + outcome, tl.sum(summed, 1), mask=exists[:, None] & (lane < dim)[None, :])
