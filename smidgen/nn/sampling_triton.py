"""Deformable sampling in one Triton kernel, on GPUs: forward and backward, alone or with softmax and locations fused.

The kernels are two operators registered with torch.library, so that export, compilation and FLOP counting see them,
also where Triton is missing: it is imported by the first call. Gradients of values are added up with atomics in float32
at least, so their last bits change from run to run, as those of `grid_sample` do on a GPU; all other results are
deterministic. The backward operator is not differentiable. docs/adr/0023 says why the kernels are ours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

INSTALLED = find_spec("triton") is not None
"""Triton comes with torch on Linux; other platforms do without."""


def explain_missing(device: torch.device) -> str | None:
    """What the kernels would need to run on `device`; None if they can (TRITON_INTERPRET=1 runs them on a CPU)."""
    if not INSTALLED:
        return "the package triton, which is not installed"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"a GPU, got values on {device}"
    return None


def sample_with_triton(
    value: Float[Tensor, "B N heads dim"],
    shapes: Sequence[tuple[int, int]],
    locations: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads_times_dim"]:
    """`deformable_attention.sample_deformable` of tensors of any floating dtypes, read as they are."""
    output: Tensor = sample_triton(value, _in_a_row(shapes), locations, weights, None)
    return output


def attend_with_triton(
    value: Float[Tensor, "B N heads dim"],
    shapes: Sequence[tuple[int, int]],
    offsets: Float[Tensor, "B Q heads L P 2"],
    logits: Float[Tensor, "B Q heads L P"],
    reference: Float[Tensor, "B Q L D"],
) -> Float[Tensor, "B Q heads_times_dim"]:
    """`deformable_attention.attend_deformable`: neither locations nor the softmax of logits are ever written out."""
    if reference.shape[-1] not in (2, 4):
        raise ValueError(f"expected references of 2 (points) or 4 numbers (boxes), got {tuple(reference.shape)}")
    output: Tensor = sample_triton(value, _in_a_row(shapes), offsets, logits, reference)
    return output


def _in_a_row(shapes: Sequence[tuple[int, int]]) -> list[int]:
    return [size for shape in shapes for size in shape]


@torch.library.custom_op(
    "smidgen::sample_triton",
    mutates_args=(),
    schema="(Tensor value, SymInt[] sizes, Tensor places, Tensor scores, Tensor? reference) -> Tensor",
)
def sample_triton(
    value: Tensor, sizes: Sequence[int], places: Tensor, scores: Tensor, reference: Tensor | None
) -> Tensor:
    """Both public functions: places and scores are locations and weights, or, with a reference, offsets and logits."""
    _check_cells(value, sizes)
    from smidgen.nn.sampling_triton_forward import launch_forward

    inputs = (value.contiguous(), tuple(sizes), places.contiguous(), scores.contiguous(), _contiguous(reference))
    output = _empty_output(value, sizes, places, scores, reference)
    if output.numel():
        launch_forward(*inputs, output, _compute_dtype(value, places, scores))
    return output


@torch.library.custom_op(
    "smidgen::sample_triton_backward",
    mutates_args=(),
    schema=(
        "(Tensor gradient, Tensor value, SymInt[] sizes, Tensor places, Tensor scores, Tensor? reference,"
        " bool learn_reference) -> (Tensor, Tensor, Tensor, Tensor)"
    ),
)
def sample_triton_backward(
    gradient: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    places: Tensor,
    scores: Tensor,
    reference: Tensor | None,
    learn_reference: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of value, places, scores and reference (empty unless wanted) from that of `sample_triton`'s output."""
    _check_determinism()
    from smidgen.nn.sampling_triton_backward import launch_backward

    inputs = (value.contiguous(), tuple(sizes), places.contiguous(), scores.contiguous(), _contiguous(reference))
    gradients = _gradient_buffers(value, places, scores, reference if learn_reference else None)
    if gradient.numel():
        launch_backward(gradient.contiguous(), *inputs, gradients)
    to_value, to_places, to_scores, by_head = gradients
    to_reference = by_head.sum(2).to((value if reference is None else reference).dtype)
    return to_value.to(value.dtype), to_places, to_scores, to_reference


def _gradient_buffers(
    value: Tensor, places: Tensor, scores: Tensor, reference: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the backward kernel fills: values are added to, references are per head (so that the sum has an order)."""
    compute = _compute_dtype(value, places, scores)
    to_value = torch.zeros_like(value, dtype=compute, memory_format=torch.contiguous_format)
    to_places, to_scores = (torch.empty_like(each, memory_format=torch.contiguous_format) for each in (places, scores))
    numbers = 0 if reference is None else reference.shape[-1]
    return to_value, to_places, to_scores, value.new_empty((*scores.shape[:4], numbers), dtype=compute)


def _contiguous(reference: Tensor | None) -> Tensor | None:
    return None if reference is None else reference.contiguous()


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(each.dtype == torch.float64 for each in tensors) else torch.float32


def _check_cells(value: Tensor, sizes: Sequence[int]) -> None:
    cells = sum(rows * columns for rows, columns in zip(sizes[::2], sizes[1::2], strict=True))
    if cells != value.shape[1]:
        raise ValueError(f"expected values of {cells} cells, as many as in levels of {sizes}, got {value.shape[1]}")


def _check_determinism() -> None:
    if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(
            "deformable sampling on a GPU has no deterministic gradient, neither by Triton nor by grid_sample; allow it"
            " with torch.use_deterministic_algorithms(True, warn_only=True)"
        )


@sample_triton.register_fake
def _empty_output(
    value: Tensor, sizes: Sequence[int], places: Tensor, scores: Tensor, reference: Tensor | None
) -> Tensor:
    return value.new_empty(scores.shape[0], scores.shape[1], value.shape[2] * value.shape[3])


@sample_triton_backward.register_fake
def _empty_gradients(
    gradient: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    places: Tensor,
    scores: Tensor,
    reference: Tensor | None,
    learn_reference: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, queries, _, levels, _ = scores.shape
    numbers = reference.shape[-1] if reference is not None and learn_reference else 0
    to_reference = (value if reference is None else reference).new_empty(batch, queries, levels, numbers)
    contiguous = torch.contiguous_format
    to_value, to_places, to_scores = (
        torch.empty_like(each, memory_format=contiguous) for each in (value, places, scores)
    )
    return to_value, to_places, to_scores, to_reference


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, places, scores, reference = inputs
    ctx.save_for_backward(value, places, scores, reference)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    value, places, scores, reference = ctx.saved_tensors
    learn_reference = reference is not None and ctx.needs_input_grad[4]
    to_value, to_places, to_scores, to_reference = sample_triton_backward(
        gradient, value, ctx.sizes, places, scores, reference, learn_reference
    )
    return to_value, None, to_places, to_scores, to_reference if learn_reference else None


sample_triton.register_autograd(_differentiate, setup_context=_save_inputs)


@register_flop_formula(torch.ops.smidgen.sample_triton)
def _count_flops(value: Sequence[int], sizes: Any, places: Any, scores: Sequence[int], *_: Any, **__: Any) -> int:
    """The rule of `deformable_attention.sampling_macs`, two operations per multiply-add."""
    return 2 * 5 * math.prod(scores) * value[-1]


@register_flop_formula(torch.ops.smidgen.sample_triton_backward)
def _count_backward_flops(
    gradient: Any, value: Sequence[int], sizes: Any, places: Any, scores: Sequence[int], *_: Any, **__: Any
) -> int:
    """Twice the forward pass: once towards the values, once towards locations and weights."""
    return 2 * _count_flops(value, sizes, places, scores)
