"""The Triton kernels are trusted on a device only after they agreed there, once, with `grid_sample` on a CPU.

A kernel that is compiled on the user's machine can fail in ways that no test of ours sees: an old driver, an unknown
device, a compiler's bug. The case has the sizes that the model asks for, so what is compiled for it is used afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread

import torch
from torch import Tensor

from smidgen.nn.sampling_grid import sample_with_grid
from smidgen.nn.sampling_locations import locate_samples
from smidgen.nn.sampling_triton import INSTALLED, attend_with_triton, sample_with_triton

SHAPES = ((5, 9), (4, 3), (3, 3), (2, 1))
"""Levels of the case, repeated as often as needed."""

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Largest difference, as a share of the largest number of a result: a few roundings of each dtype."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a kernel is compiled for. reference_size: 0 where locations and weights are given. learn: with gradients."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    levels: int
    points: int
    dim: int
    reference_size: int
    learn: bool

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(rows, columns) of the levels."""
        return [SHAPES[level % len(SHAPES)] for level in range(self.levels)]


_VERDICTS: dict[Case, bool] = {}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def triton_is_trusted(
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    levels: int,
    points: int,
    dim: int,
    reference_size: int,
    learn: bool,
) -> bool:
    """Whether the kernels for these sizes gave the right numbers on this device; the first time, that is tried."""
    case = Case(device, dtype, heads, levels, points, dim, reference_size, learn)
    if case not in _VERDICTS and _can_be_tried():
        _VERDICTS[case] = passes(case)
    return _VERDICTS.get(case, False)


def _can_be_tried() -> bool:
    # While a graph is captured nothing can be compiled or copied; a warm-up before it gives the verdict.
    return INSTALLED and torch.cuda.is_available() and not torch.cuda.is_current_stream_capturing()


def passes(case: Case) -> bool:
    """Try the case; a failure is a warning, never an error."""
    problems: list[str] = []
    # In a thread of its own: no inference mode, autocast, fake tensors or counters of the caller reach in there.
    thread = Thread(target=_try, args=(case, problems))
    thread.start()
    thread.join()
    if problems:
        warnings.warn(
            f"the Triton kernel for deformable attention is not used on {case.device} in {case.dtype}: {problems[0]}."
            " grid_sample takes its place; results are the same, only slower. Please report this.",
            RuntimeWarning,
            stacklevel=2,
        )
    return not problems


def _try(case: Case, problems: list[str]) -> None:
    try:
        difference = largest_difference(case)
    except Exception as error:  # whatever a compiler or a driver raises
        problems.append(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        return
    if not difference <= TOLERANCES[case.dtype]:  # nor anything that is not a number
        problems.append(f"it differs from grid_sample by {difference:.1e} of the largest value")


def largest_difference(case: Case) -> float:
    """Over the output and all gradients, each relative to its own largest number."""
    value, *others = _inputs(case)
    rounded = [value.to(case.dtype), *(each.to(torch.promote_types(case.dtype, torch.float32)) for each in others)]
    expected = _results(case, [each.double() for each in rounded], _sample_on_cpu)
    found = _results(case, [each.to(case.device) for each in rounded], _sample_with_triton)
    pairs = zip(found, expected, strict=True)
    return max(float((ours.cpu().double() - right).abs().max() / right.abs().max()) for ours, right in pairs)


def _inputs(case: Case) -> list[Tensor]:
    """Value, places, scores and, if there is one, reference: with samples inside and outside of their levels."""
    generator = torch.Generator().manual_seed(0)
    axes = (2, 5, case.heads, case.levels, case.points)
    cells = sum(rows * columns for rows, columns in case.shapes)
    sizes = [(2, cells, case.heads, case.dim), (*axes, 2), axes, (2, 5, case.levels, max(2, case.reference_size))]
    value, places, scores, reference = (torch.randn(size, generator=generator).double() for size in sizes)
    if case.reference_size:
        return [value, places, scores, reference.sigmoid()]
    return [value, places.mul(0.3).add(0.5), scores]


def _results(case: Case, inputs: list[Tensor], sample: Callable[..., Tensor]) -> list[Tensor]:
    """Output and, if the case learns, the gradients of all inputs."""
    inputs = [each.requires_grad_(case.learn) for each in inputs]
    output = sample(case.shapes, *inputs)
    if not case.learn:
        return [output]
    cotangent = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    return [output.detach(), *torch.autograd.grad(output, inputs, cotangent.to(output))]


def _sample_with_triton(
    shapes: Sequence[tuple[int, int]], value: Tensor, places: Tensor, scores: Tensor, reference: Tensor | None = None
) -> Tensor:
    if reference is None:
        return sample_with_triton(value, shapes, places, scores)
    return attend_with_triton(value, shapes, places, scores, reference)


def _sample_on_cpu(
    shapes: Sequence[tuple[int, int]], value: Tensor, places: Tensor, scores: Tensor, reference: Tensor | None = None
) -> Tensor:
    if reference is None:
        return sample_with_grid(value, shapes, places, scores)
    weights = scores.flatten(3).softmax(-1).view_as(scores)
    return sample_with_grid(value, shapes, locate_samples(places, reference, shapes), weights)
