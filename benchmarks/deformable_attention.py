"""Deformable attention's sampling against transformers' Deformable DETR: CPU time of one thread, as ratios of one run.

    python benchmarks/deformable_attention.py [--quick] [--rounds N]

The peer is MultiScaleDeformableAttention, the parameter-free core in plain PyTorch; both get float32 tensors in the
layout of `sample_deformable`. Variants take turns, and a ratio is the median over rounds of the ratio within a round
(smallest and largest in brackets). Offsets are normal with a deviation of 2 cells, around the encoder's cells in raster
order or a decoder's random places.
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
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shapes = QUICK if options.quick else FULL
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}")
    cells = sum(rows * columns for rows, columns in shapes)
    for name, num_queries in (("encoder", cells), ("decoder", 300), ("decoder", 900)):
        inputs = make_inputs(shapes, encoder_places(shapes) if name == "encoder" else torch.rand(num_queries, 2))
        for training in (False, True):
            report(f"{name} {num_queries:,}", shapes, inputs, training, options.rounds)


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


def report(name: str, shapes: tuple[tuple[int, int], ...], inputs: Inputs, training: bool, rounds: int) -> None:
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
    print(f"{name} queries, {'forward and backward' if training else 'forward'}")
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


if __name__ == "__main__":
    main()
