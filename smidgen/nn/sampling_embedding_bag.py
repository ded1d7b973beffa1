"""Deformable sampling as a sum over bags of embedding rows, the fast form on a CPU with many queries.

For one image and head, a query is a bag of S = levels x points samples with four corner rows each; `embedding_bag` sums
them at the speed of the cache, where `grid_sample` writes every sample out. The two operators are registered with
torch.library, so that export, compilation and FLOP counting see them; the backward one is not differentiable.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from smidgen.nn.sampling_corners import CORNERS, BorderedLevels, add_corner, corner_weights, empty_table, fill_table

QUERIES_PER_CHUNK = 4096
"""Queries whose corners are listed at once in the forward pass: 2,048 to 8,192 are equally fast (2 MB of L2 cache)."""

QUERIES_PER_CHUNK_IN_BACKWARD = 32768
"""The same in the backward pass, where every chunk walks through all cells once: the 22,223 queries of an encoder at
800 x 1333 px stay in one chunk, and larger images take no more memory for their corners.
"""


def sample_with_bags(
    value: Float[Tensor, "B N heads dim"],
    shapes: Sequence[tuple[int, int]],
    locations: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads_times_dim"]:
    """`deformable_attention.sample_deformable` on a CPU. Half precision becomes float32 one head at a time."""
    output: Tensor = sample_bags(value, [size for shape in shapes for size in shape], locations, weights)
    return output


@torch.library.custom_op(
    "smidgen::sample_bags",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor value, SymInt[] sizes, Tensor locations, Tensor weights) -> Tensor",
)
def sample_bags(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """`sample_with_bags` with the shapes in a row: rows, columns, rows, columns ..."""
    shapes = list(zip(sizes[::2], sizes[1::2], strict=True))
    dtype = torch.promote_types(value.dtype, torch.float32)
    levels = BorderedLevels.of(shapes, weights.shape[-1], dtype)
    output = value.new_empty(*weights.shape[:3], value.shape[-1])
    for image, head, table in _tables(value, shapes, dtype):
        for queries in _chunks(weights.shape[1], QUERIES_PER_CHUNK):
            chosen = (image, queries, head)
            places, shares = locations[chosen].flatten(1, 2), weights[chosen].flatten(1)
            output[chosen] = _sum_bags(table, levels, places.to(dtype), shares.to(dtype))
    return output.flatten(2)


@torch.library.custom_op(
    "smidgen::sample_bags_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor grad, Tensor value, SymInt[] sizes, Tensor locations, Tensor weights) -> (Tensor, Tensor, Tensor)",
)
def sample_bags_backward(
    grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights from the gradient of `sample_bags`' output."""
    shapes = list(zip(sizes[::2], sizes[1::2], strict=True))
    dtype = torch.promote_types(value.dtype, torch.float32)
    levels = BorderedLevels.of(shapes, weights.shape[-1], dtype)
    gradient = grad.unflatten(2, value.shape[2:])
    to_value, to_locations, to_weights = _gradient_buffers(value, locations, weights)
    for image, head, table in _tables(value, shapes, dtype):
        collected = torch.zeros(value.shape[1], value.shape[3], dtype=dtype)
        for queries in _chunks(weights.shape[1], QUERIES_PER_CHUNK_IN_BACKWARD):
            chosen = (image, queries, head)
            places, shares = locations[chosen].flatten(1, 2).to(dtype), weights[chosen].flatten(1).to(dtype)
            incoming = gradient[chosen].to(dtype).contiguous()
            by_place, by_weight, parts = _differentiate_bags(incoming, table, levels, places, shares)
            to_locations[chosen] = by_place.view_as(to_locations[chosen])
            to_weights[chosen] = by_weight.view_as(to_weights[chosen])
            for corner, part in zip(CORNERS, parts, strict=True):
                add_corner(collected, part, shapes, corner)
        to_value[image, :, head] = collected
    return to_value, to_locations, to_weights


def _tables(value: Tensor, shapes: Sequence[tuple[int, int]], dtype: torch.dtype) -> Iterator[tuple[int, int, Tensor]]:
    """Image, head and their table of bordered cells, which is the same memory for all: new memory costs a CPU more than
    what is written to it.
    """
    table = empty_table(value, shapes, dtype)
    for image in range(value.shape[0]):
        for head in range(value.shape[2]):
            fill_table(table, value[image, :, head], shapes)
            yield image, head, table


def _chunks(num_queries: int, size: int) -> Iterator[slice]:
    """Queries whose corners are alive at once: what bounds the memory, whatever the size of the image."""
    for start in range(0, num_queries, size):
        yield slice(start, start + size)


def _differentiate_bags(
    gradient: Float[Tensor, "Q dim"],
    table: Float[Tensor, "cells dim"],
    levels: BorderedLevels,
    locations: Float[Tensor, "Q S 2"],
    weights: Float[Tensor, "Q S"],
) -> tuple[Float[Tensor, "Q S 2"], Float[Tensor, "Q S"], Iterator[Float[Tensor, "cells dim"]]]:
    """Gradients of locations and weights, and, one corner after the other, of the table."""
    upper_left, fraction = levels.locate(locations)
    readings = _read_along(gradient, table, levels.corners(upper_left))
    by_place, by_weight = _sample_gradients(readings, fraction, weights)
    parts = _transposed_bags(gradient, len(table), upper_left, corner_weights(fraction, weights))
    return by_place * levels.wh, by_weight, parts


def _sum_bags(table: Tensor, levels: BorderedLevels, locations: Tensor, weights: Tensor) -> Tensor:
    upper_left, fraction = levels.locate(locations)
    rows = levels.corners(upper_left).flatten(1)
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=corner_weights(fraction, weights).flatten(1))


def _read_along(
    gradient: Float[Tensor, "Q dim"], table: Float[Tensor, "cells dim"], rows: Int[Tensor, "Q 4 S"]
) -> Float[Tensor, "Q 4 S"]:
    """Inner product of each query's gradient with its rows of the table: the gradients of the corner weights.

    A product of dense matrices sampled at the few places of a sparse one, three times as fast as the derivative that
    comes with embedding_bag.
    """
    starts = torch.arange(len(rows) + 1, dtype=rows.dtype) * (rows.shape[1] * rows.shape[2])
    size = (len(rows), len(table))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        nothing = gradient.new_zeros(rows.numel())
        places = torch.sparse_csr_tensor(starts, rows.flatten(), nothing, size, check_invariants=False)
    products: Tensor = torch.sparse.sampled_addmm(places, gradient, table.t(), beta=0.0).values()
    return products.view(rows.shape)


def _sample_gradients(
    readings: Float[Tensor, "Q 4 S"], fraction: Float[Tensor, "Q S 2"], weights: Float[Tensor, "Q S"]
) -> tuple[Float[Tensor, "Q S 2"], Float[Tensor, "Q S"]]:
    """Gradients of each sample's place (in cells) and of its weight, from what its corners read along the gradient."""
    x, y = fraction.unbind(-1)
    upper_left, upper_right, lower_left, lower_right = readings.unbind(1)
    upper, lower = torch.lerp(upper_left, upper_right, x), torch.lerp(lower_left, lower_right, x)
    rightward = torch.lerp(upper_right - upper_left, lower_right - lower_left, y)
    return torch.stack([weights * rightward, weights * (lower - upper)], dim=-1), torch.lerp(upper, lower, y)


def _transposed_bags(
    gradient: Float[Tensor, "Q dim"],
    num_cells: int,
    upper_left: Int[Tensor, "Q S"],
    shares: Float[Tensor, "Q 4 S"],
) -> Iterator[Float[Tensor, "cells dim"]]:
    """For each corner, the sum over samples of share times gradient at the cell that is the samples' *upper left* one.

    Sorting by that cell alone serves all four corners, and turns scattering into bags of queries.
    """
    cells, order = upper_left.flatten().sort()
    starts = torch.searchsorted(cells, torch.arange(num_cells, dtype=cells.dtype), out_int32=True)
    queries = (order // upper_left.shape[1]).to(torch.int32)
    for share in shares.unbind(1):
        sorted_share = share.flatten().index_select(0, order)
        yield F.embedding_bag(queries, gradient, starts, mode="sum", per_sample_weights=sorted_share)


def _gradient_buffers(*inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(each, memory_format=torch.contiguous_format) for each in inputs)


@sample_bags.register_fake
def _(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(weights.shape[0], weights.shape[1], value.shape[2] * value.shape[3])


@sample_bags_backward.register_fake
def _(gradient: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    return _gradient_buffers(value, locations, weights)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    to_value, to_locations, to_weights = sample_bags_backward(gradient, value, ctx.sizes, locations, weights)
    return to_value, None, to_locations, to_weights


sample_bags.register_autograd(_differentiate, setup_context=_save_inputs)


@register_flop_formula(torch.ops.smidgen.sample_bags)
def _count_flops(value: Sequence[int], sizes: Any, locations: Any, weights: Sequence[int], **_: Any) -> int:
    """The rule of `deformable_attention.sampling_macs`, two operations per multiply-add."""
    return 2 * 5 * math.prod(weights) * value[-1]


@register_flop_formula(torch.ops.smidgen.sample_bags_backward)
def _count_backward_flops(
    gradient: Any, value: Sequence[int], sizes: Any, locations: Any, weights: Sequence[int], **_: Any
) -> int:
    """Twice the forward pass: once towards the values, once towards locations and weights."""
    return 2 * _count_flops(value, sizes, locations, weights)
