"""Deformable attention's sampling against transformers' Deformable DETR: CPU time of one thread, as ratios of one run.

    python benchmarks/deformable_attention.py [--quick] [--rounds N] [--device cpu]

The peer is MultiScaleDeformableAttention, the parameter-free core in plain PyTorch; both get float32 tensors in the
layout of `sample_deformable`. Variants take turns, and a ratio is the median over rounds of the ratio within a round
(smallest and largest in brackets). Offsets are normal with a deviation of 2 cells, around the encoder's cells in raster
order or a decoder's random places.

On a GPU (taken if there is one) the variants are our Triton kernel, grid_sample and, if it is installed, deformops.
Times are those of CUDA events, in float32 and bfloat16, with the memory that a call takes beyond its inputs, and the
rate of the bytes that must move through memory and cache, also as a share of the limit: an H200's memory
moves 4.8 TB/s, its cache an assumed 5.5 TB/s (`--memory-rate`, `--cache-rate` for other devices).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from smidgen.nn.deformable_attention import SamplingMethod, sample_deformable

HEADS, DIM, POINTS = 8, 32, 4
FULL = ((100, 167), (50, 84), (25, 42), (13, 21))  # 800 x 1333 px
QUICK = ((40, 40), (20, 20), (10, 10), (5, 5))  # 320 x 320 px

Sample = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Inputs:
    value: Tensor
    locations: Tensor
    weights: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="320 x 320 px instead of 800 x 1333")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory-rate", type=float, default=4.8, help="TB/s of the GPU's memory")
    parser.add_argument("--cache-rate", type=float, default=5.5, help="TB/s of the GPU's second-level cache")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shapes = QUICK if options.quick else FULL
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}")
    cells = sum(rows * columns for rows, columns in shapes)
    for name, num_queries in (("encoder", cells), ("decoder", 300), ("decoder", 900)):
        inputs = make_inputs(shapes, encoder_places(shapes) if name == "encoder" else torch.rand(num_queries, 2))
        for training in (False, True):
            title = f"{name} {num_queries:,} queries, {'forward and backward' if training else 'forward'}"
            if options.device == "cpu":
                report(title, shapes, inputs, training, options.rounds)
            else:
                report_on_gpu(title, shapes, inputs, training, options)


def encoder_places(shapes: tuple[tuple[int, int], ...]) -> Tensor:
    """Centers (x, y) of all cells of all levels."""
    places = []
    for rows, columns in shapes:
        y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
        places.append(torch.stack([x, y], dim=-1).flatten(0, 1))
    return torch.cat(places)


def make_inputs(shapes: tuple[tuple[int, int], ...], places: Tensor) -> Inputs:
    """One image's random values and weights, and locations around `places`."""
    axes = (1, len(places), HEADS, len(shapes), POINTS)
    wh = torch.tensor([(columns, rows) for rows, columns in shapes])[:, None]
    locations = places[None, :, None, None, None] + 2 * torch.randn(*axes, 2) / wh
    value = torch.randn(1, sum(rows * columns for rows, columns in shapes), HEADS, DIM)
    return Inputs(value, locations, torch.randn(axes).flatten(3).softmax(-1).view(axes))


def report(title: str, shapes: tuple[tuple[int, int], ...], inputs: Inputs, training: bool, rounds: int) -> None:
    """Print the times of all variants and how many times as fast as the peer they are."""
    samples: dict[str, Sample] = {
        "transformers": peer(shapes),
        **{method: ours(shapes, method) for method in ("grid_sample", "embedding_bag", "auto")},
    }
    seconds = {variant: [] for variant in samples}
    for turn in range(rounds + 1):
        for variant, sample in samples.items():
            spent = cpu_seconds(sample, inputs, training)
            if turn:  # the first round warms up
                seconds[variant].append(spent)
    print(title)
    for variant, spent in seconds.items():
        ratios = sorted(before / after for before, after in zip(seconds["transformers"], spent, strict=True))
        spread = f"({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"  {variant:14} {1000 * median(spent):8.1f} ms  x {median(ratios):5.2f}  {spread}")
    against_grid = [a / b for a, b in zip(seconds["grid_sample"], seconds["auto"], strict=True)]
    print(f"  auto against our own grid_sample: x {median(against_grid):.2f}")


def peer(shapes: tuple[tuple[int, int], ...]) -> Sample:
    """transformers' core in our argument order."""
    core, sizes = MultiScaleDeformableAttention(), torch.tensor(shapes)
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
    return lambda value, locations, weights: core(value, sizes, list(shapes), starts, locations, weights, 64)


def ours(shapes: tuple[tuple[int, int], ...], method: SamplingMethod) -> Sample:
    return lambda value, locations, weights: sample_deformable(value, shapes, locations, weights, method=method)


def cpu_seconds(sample: Sample, inputs: Inputs, training: bool) -> float:
    """Process CPU time of one call, with the gradients of all three inputs if training."""
    tensors = [each.detach().requires_grad_(training) for each in (inputs.value, inputs.locations, inputs.weights)]
    start = time.process_time()
    output = sample(*tensors)
    if training:
        output.backward(torch.ones_like(output))
    return time.process_time() - start


def report_on_gpu(
    title: str, shapes: tuple[tuple[int, int], ...], inputs: Inputs, training: bool, options: argparse.Namespace
) -> None:
    """Print time, memory and rates of all variants, and how many times as fast as our own grid_sample they are."""
    for dtype in (torch.float32, torch.bfloat16):
        samples = {method: ours(shapes, method) for method in ("grid_sample", "triton")} | deformops(shapes)
        # deformops wants all its inputs in one dtype; ours reads half precision values at float32 places.
        places = dict.fromkeys(samples, torch.float32) | {"deformops": dtype}
        moved = {
            variant: Inputs(
                inputs.value.to("cuda", dtype),
                inputs.locations.to("cuda", places[variant]),
                inputs.weights.to("cuda", places[variant]),
            )
            for variant in samples
        }
        milliseconds = {variant: [] for variant in samples}
        for turn in range(options.rounds + 3):
            for variant, sample in samples.items():
                spent = gpu_milliseconds(sample, moved[variant], training)
                if turn >= 3:  # the first rounds compile and warm up
                    milliseconds[variant].append(spent)
        print(f"{title}, {str(dtype).removeprefix('torch.')}")
        for variant, sample in samples.items():
            pairs = zip(milliseconds["grid_sample"], milliseconds[variant], strict=True)
            ratios = sorted(before / after for before, after in pairs)
            megabytes = gpu_megabytes(sample, moved[variant], training)
            print(
                f"  {variant:14} {median(milliseconds[variant]):8.3f} ms  x {median(ratios):5.2f}"
                f"  ({ratios[0]:.2f}-{ratios[-1]:.2f})  {megabytes:7.0f} MB"
                f"  {rates(moved[variant], training, median(milliseconds[variant]), options)}"
            )


def rates(inputs: Inputs, training: bool, milliseconds: float, options: argparse.Namespace) -> str:
    """TB/s through memory and cache, and their shares of the limits."""
    limits = (("memory", options.memory_rate), ("cache", options.cache_rate))
    moved = [each / milliseconds / 1e9 for each in bytes_to_move(inputs, training)]
    shares = zip(limits, moved, strict=True)
    return "  ".join(f"{name} {rate:5.2f} TB/s ({rate / limit:4.0%})" for (name, limit), rate in shares)


def bytes_to_move(inputs: Inputs, training: bool) -> tuple[int, int]:
    """Least bytes through the memory (each tensor once) and through the cache (four corners of every sample).

    Backward reads everything again and writes its gradient; corners are read once and added to in float32 once.
    """
    tensors = (inputs.value, inputs.locations, inputs.weights)
    output = inputs.weights.shape[1] * HEADS * DIM * inputs.value.element_size()
    once = sum(each.nbytes for each in tensors)
    corner_channels = 4 * inputs.weights.numel() * DIM
    gathered = corner_channels * inputs.value.element_size()
    if not training:
        return once + output, gathered
    return 3 * once + 2 * output, 2 * gathered + 4 * corner_channels


def gpu_milliseconds(sample: Sample, inputs: Inputs, training: bool) -> float:
    """Time between two CUDA events around one call."""
    tensors = [each.detach().requires_grad_(training) for each in (inputs.value, inputs.locations, inputs.weights)]
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run(sample, tensors, training)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def gpu_megabytes(sample: Sample, inputs: Inputs, training: bool) -> float:
    """Peak of allocated memory beyond what was there before the call."""
    tensors = [each.detach().requires_grad_(training) for each in (inputs.value, inputs.locations, inputs.weights)]
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(sample, tensors, training)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def run(sample: Sample, tensors: list[Tensor], training: bool) -> None:
    output = sample(*tensors)
    if training:
        output.backward(torch.ones_like(output))


def deformops(shapes: tuple[tuple[int, int], ...]) -> dict[str, Sample]:
    """The peer on a GPU in our argument order, or nothing where it is not installed."""
    try:
        from deformops.registry import msda
    except ImportError:
        return {}
    sizes = torch.tensor(shapes, device="cuda")
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
    return {"deformops": lambda value, locations, weights: msda(value, sizes, starts, locations, weights.flatten(3))}


if __name__ == "__main__":
    main()
