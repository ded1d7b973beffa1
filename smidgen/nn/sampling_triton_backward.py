"""Triton kernel of the gradients of deformable sampling, in one pass over the samples.

A softmax's gradient needs the mean over all samples first: the gradients of the weights, a few numbers per query, wait
in registers until the last level is done. Gradients of values are added with atomics: neighboring queries read the same
cells, and sorting 16 samples per query by cell moves more bytes than the additions themselves.
"""

from __future__ import annotations

from typing import no_type_check

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from smidgen.nn.sampling_triton_tiles import (
    SIZES,
    address_channels,
    address_pairs,
    all_logits,
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


def launch_backward(
    gradient: Tensor,
    value: Tensor,
    sizes: tuple[int, ...],
    places: Tensor,
    scores: Tensor,
    reference: Tensor | None,
    gradients: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Fill the gradients of value, places, scores and (each head's own, unless it is empty) reference.

    All tensors are contiguous. The gradient of value must be zeros, and its dtype is that of the arithmetic.
    """
    tensors = [gradient, value, places, scores, places if reference is None else reference, *gradients]
    constants = constants_of(value, scores, reference, gradients[0].dtype)
    launch(backward_kernel, tensors, sizes, scores, **constants, learn_reference=gradients[3].numel() > 0)


@triton.jit(do_not_specialize=SIZES)
@no_type_check
def backward_kernel(
    gradient, value, places, scores, reference, to_value, to_places, to_scores, to_reference,
    sizes, num_queries, num_cells,
    heads: tl.constexpr, dim: tl.constexpr, levels: tl.constexpr, points: tl.constexpr, reference_size: tl.constexpr,
    queries: tl.constexpr, dim_padded: tl.constexpr, levels_padded: tl.constexpr, points_padded: tl.constexpr,
    compute: tl.constexpr, learn_reference: tl.constexpr,
):  # fmt: skip
    """Gradients of a block's inputs. `to_value` is added to and starts as zeros; `to_reference` is per head."""
    image, head, query, row, exists = block_of_queries(num_queries, heads, queries)
    point, lane = tl.arange(0, points_padded), tl.arange(0, dim_padded)
    sampled = exists[:, None] & (point < points)[None, :]
    top, total = softmax_terms(
        scores, row, exists, levels, points, reference_size, levels_padded, points_padded, compute
    )  # fmt: skip
    outcome = row[:, None] * dim + lane[None, :]
    arriving = tl.load(gradient + outcome, mask=exists[:, None] & (lane < dim)[None, :], other=0.0).to(compute)
    by_weight_everywhere = tl.zeros([queries, levels_padded, points_padded], compute)
    cells = image * num_cells
    for level in tl.static_range(levels):
        rows, columns = sizes[2 * level], sizes[2 * level + 1]
        sample = row[:, None] * (levels * points) + level * points + point[None, :]
        weight = weight_samples(scores, sample, sampled, top, total, reference_size, compute)
        x, y, x_step, y_step = place_samples(
            places, reference, sample, query * levels + level, sampled, exists, rows, columns,
            points, reference_size, compute,
        )  # fmt: skip
        left, x = split_cell(x, columns)
        upper, y = split_cell(y, rows)
        by_weight = tl.zeros([queries, points_padded], compute)
        by_x = tl.zeros([queries, points_padded], compute)
        by_y = tl.zeros([queries, points_padded], compute)
        for corner in tl.static_range(4):
            right, down = corner % 2, corner // 2
            readable = sampled & is_cell(left + right, columns) & is_cell(upper + down, rows)
            channels = readable[:, :, None] & (lane < dim)[None, None, :]
            address = address_channels(cells, left + right, upper + down, columns, head, lane, heads, dim)
            read = tl.load(value + address, mask=channels, other=0.0).to(compute)
            along = tl.sum(read * arriving[:, None, :], 2)
            across, downward = linear_weight(x, right), linear_weight(y, down)
            by_weight += along * across * downward
            by_x += along * downward * (2 * right - 1)
            by_y += along * across * (2 * down - 1)
            share = weight * across * downward
            tl.atomic_add(to_value + address, share[:, :, None] * arriving[:, None, :], mask=channels, sem="relaxed")
        by_x, by_y = by_x * weight, by_y * weight
        both = tl.join(by_x * x_step, by_y * y_step)
        tl.store(address_pairs(to_places, sample), both, mask=sampled[:, :, None])
        if learn_reference:
            _store_reference_gradient(
                to_reference, places, sample, row * levels + level, sampled, exists, by_x * columns, by_y * rows,
                points, reference_size, compute,
            )  # fmt: skip
        if reference_size > 0:
            here = (tl.arange(0, levels_padded) == level)[None, :, None]
            by_weight_everywhere = tl.where(here, by_weight[:, None, :], by_weight_everywhere)
        else:
            tl.store(to_scores + sample, by_weight, mask=sampled)
        cells += rows * columns
    if reference_size > 0:
        _store_logit_gradient(
            to_scores, scores, by_weight_everywhere, row, exists, top, total,
            levels, points, levels_padded, points_padded, compute,
        )  # fmt: skip


@triton.jit
@no_type_check
def _store_reference_gradient(
    to_reference, places, sample, row_level, sampled, exists, by_x, by_y,
    points: tl.constexpr, reference_size: tl.constexpr, compute: tl.constexpr,
):  # fmt: skip
    """Sums over one level's points; `by_x` and `by_y` are in units of the canvas."""
    target = to_reference + row_level * reference_size
    tl.store(target, tl.sum(by_x, 1), mask=exists)
    tl.store(target + 1, tl.sum(by_y, 1), mask=exists)
    if reference_size == 4:
        x, y = tl.split(tl.load(address_pairs(places, sample), mask=sampled[:, :, None], other=0.0).to(compute))
        tl.store(target + 2, tl.sum(by_x * x, 1) * (0.5 / points), mask=exists)
        tl.store(target + 3, tl.sum(by_y * y, 1) * (0.5 / points), mask=exists)


@triton.jit
@no_type_check
def _store_logit_gradient(
    to_scores, scores, by_weight, row, exists, top, total,
    levels: tl.constexpr, points: tl.constexpr, levels_padded: tl.constexpr, points_padded: tl.constexpr,
    compute: tl.constexpr,
):  # fmt: skip
    """Derivative of softmax: each weight times what its gradient exceeds the weighted mean of all by."""
    logits, sample, there = all_logits(scores, row, exists, levels, points, levels_padded, points_padded, compute)
    weight = tl.exp(logits - top[:, None, None]) / total[:, None, None]
    mean = tl.sum(tl.sum(weight * by_weight, 2), 1)
    tl.store(to_scores + sample, weight * (by_weight - mean[:, None, None]), mask=there)
