"""What both Triton kernels of deformable sampling do: find a tile of samples, their weights, cells and addresses.

A tile is the samples of one level, [queries, points], or these with their channels, [queries, points, channels], which
lie on lanes. `reference_size` is how many numbers a reference has: with 2 (points) or 4 (boxes), `places` are raw
offsets and `scores` raw logits; with 0 there is none, and they are locations and weights. Axes are padded to powers of
two, as Triton wants; rows are addressed with 64 bits.

`no_type_check` keeps runtime type checkers away from code that is never called as it is. Importing this module needs
Triton.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

SIZES = ["sizes", "num_queries", "num_cells"]
"""Arguments that kernels are not specialized for: an image of another size compiles nothing."""

ELEMENTS_PER_PROGRAM = 2048
"""Queries x points x channels of a tile: 16 for each of 128 threads. Compiled for Hopper the kernels take 150 to 255
registers of a thread and spill at most 8 bytes; half the tile takes hardly fewer (172 for 193). Not measured on a GPU.
"""


def launch(kernel: Any, tensors: list[Tensor], sizes: tuple[int, ...], scores: Tensor, **constants: Any) -> None:
    """Run a kernel with one program per image, head and block of queries, on the device of its tensors.

    sizes: rows, columns, rows, columns ... of the levels. constants: what the kernel is compiled for, `constants_of`.
    """
    blocks = triton.cdiv(scores.shape[1], constants["queries"])
    num_cells = sum(rows * columns for rows, columns in zip(sizes[::2], sizes[1::2], strict=True))
    with torch.cuda.device_of(scores):
        # Fused multiply-adds are what the tolerances of the tests were set for, whatever Triton's default becomes.
        kernel[(scores.shape[0] * scores.shape[2] * blocks,)](
            *tensors, sizes, scores.shape[1], num_cells, **constants, enable_fp_fusion=True
        )


def constants_of(value: Tensor, scores: Tensor, reference: Tensor | None, compute: torch.dtype) -> dict[str, Any]:
    """Sizes of the model, not of the image."""
    levels, points = scores.shape[3:]
    heads, dim = value.shape[2:]
    dim_padded, points_padded = triton.next_power_of_2(dim), triton.next_power_of_2(points)
    return {
        "heads": heads,
        "dim": dim,
        "levels": levels,
        "points": points,
        "reference_size": 0 if reference is None else reference.shape[-1],
        "queries": max(1, ELEMENTS_PER_PROGRAM // (dim_padded * points_padded)),
        "dim_padded": dim_padded,
        "levels_padded": triton.next_power_of_2(levels),
        "points_padded": points_padded,
        "compute": tl.float64 if compute == torch.float64 else tl.float32,
    }


@triton.jit
@no_type_check
def block_of_queries(num_queries, heads: tl.constexpr, queries: tl.constexpr):
    """Image, head, and for each query its row among (image, query), its row among (image, query, head), existence.

    Neighboring programs share a head, whose part of the values is a small part of the cache.
    """
    num_blocks = tl.cdiv(num_queries, queries)
    image = (tl.program_id(0) // num_blocks // heads).to(tl.int64)
    head = tl.program_id(0) // num_blocks % heads
    index = tl.program_id(0) % num_blocks * queries + tl.arange(0, queries)
    query = image * num_queries + index
    return image, head, query, query * heads + head, index < num_queries


@triton.jit
@no_type_check
def softmax_terms(
    scores, row, exists,
    levels: tl.constexpr, points: tl.constexpr, reference_size: tl.constexpr,
    levels_padded: tl.constexpr, points_padded: tl.constexpr, compute: tl.constexpr,
):  # fmt: skip
    """Largest logit of each query and the sum of exponentials below it; not read where there are no logits."""
    if reference_size > 0:
        logits, _, _ = all_logits(scores, row, exists, levels, points, levels_padded, points_padded, compute)
        top = tl.max(tl.max(logits, 2), 1)
        total = tl.sum(tl.sum(tl.exp(logits - top[:, None, None]), 2), 1)
    else:
        top = tl.zeros(row.shape, compute)
        total = top
    return top, total


@triton.jit
@no_type_check
def all_logits(
    scores, row, exists, levels: tl.constexpr, points: tl.constexpr,
    levels_padded: tl.constexpr, points_padded: tl.constexpr, compute: tl.constexpr,
):  # fmt: skip
    """Logits [queries, levels, points] (minus infinity where padded), their places in memory, and which are there."""
    level, point = tl.arange(0, levels_padded)[None, :, None], tl.arange(0, points_padded)[None, None, :]
    sample = row[:, None, None] * (levels * points) + level * points + point
    is_sample = (level < levels) & (point < points)
    there = is_sample & exists[:, None, None]
    logits = tl.load(scores + sample, mask=there, other=0.0).to(compute)
    return tl.where(is_sample, logits, float("-inf")), sample, there


@triton.jit
@no_type_check
def weight_samples(scores, sample, sampled, top, total, reference_size: tl.constexpr, compute: tl.constexpr):
    """Attention weights of one level's samples."""
    score = tl.load(scores + sample, mask=sampled, other=0.0).to(compute)
    if reference_size > 0:
        score = tl.exp(score - top[:, None]) / total[:, None]
    return score


@triton.jit
@no_type_check
def place_samples(
    places, reference, sample, query_level, sampled, exists, rows, columns,
    points: tl.constexpr, reference_size: tl.constexpr, compute: tl.constexpr,
):  # fmt: skip
    """(x, y) of one level's samples in cells from the first cell's center, and how far one unit of a place moves them.

    Offsets are in cells around a point, in half box sizes / points around a box.
    """
    x, y = tl.split(tl.load(address_pairs(places, sample), mask=sampled[:, :, None], other=0.0).to(compute))
    x_step, y_step = columns.to(compute), rows.to(compute)
    if reference_size > 0:
        around = reference + query_level * reference_size
        x_around = tl.load(around, mask=exists, other=0.0).to(compute)[:, None] * x_step
        y_around = tl.load(around + 1, mask=exists, other=0.0).to(compute)[:, None] * y_step
        if reference_size == 4:
            x_step = tl.load(around + 2, mask=exists, other=0.0).to(compute)[:, None] * (x_step * (0.5 / points))
            y_step = tl.load(around + 3, mask=exists, other=0.0).to(compute)[:, None] * (y_step * (0.5 / points))
        else:
            x_step, y_step = tl.full([1, 1], 1.0, compute), tl.full([1, 1], 1.0, compute)
        x, y = x_around + x * x_step, y_around + y * y_step
    else:
        x, y = x * x_step, y * y_step
    return x - 0.5, y - 0.5, x_step, y_step


@triton.jit
@no_type_check
def split_cell(place, size):
    """Cell before each place and the way from there in cells; what is far outside is moved to just outside.

    What is not a number stays so, at a cell outside: the result must be no number either, and no address at all.
    """
    place = tl.where(place < -2.0, -2.0, tl.where(place > size + 1.0, size + 1.0, place))
    whole = tl.floor(place)
    return tl.where(place == place, whole, -2.0).to(tl.int32), place - whole


@triton.jit
@no_type_check
def is_cell(index, size):
    return (index >= 0) & (index < size)


@triton.jit
@no_type_check
def linear_weight(fraction, far: tl.constexpr):
    """Linear weight of the nearer or the farther of two cells."""
    if far:
        return fraction
    return 1.0 - fraction


@triton.jit
@no_type_check
def address_channels(cells, column, row, columns, head, lane, heads: tl.constexpr, dim: tl.constexpr):
    """Offsets of the channels of a head at (row, column) of the level that begins at row `cells` of all values."""
    cell = cells + row * columns + column
    return (cell * heads + head)[:, :, None] * dim + lane[None, None, :]


@triton.jit
@no_type_check
def address_pairs(start, sample):
    return start + (sample * 2)[:, :, None] + tl.arange(0, 2)[None, None, :]
