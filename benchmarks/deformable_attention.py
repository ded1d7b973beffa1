"""Deformable attention's sampling against transformers' Deformable DETR: time and memory, as ratios of one run.

    python benchmarks/deformable_attention.py [--quick] [--rounds N] [--images 1] [--device cpu]

The peer is MultiScaleDeformableAttention, the parameter-free core in plain PyTorch; both get float32 tensors in the
layout of `sample_deformable`, of an 800 x 1333 px image. Offsets are normal with a deviation of 2 cells, around the
encoder's cells in raster order or a decoder's random places. Batches of several images have results of their own.

On a GPU (taken if there is one) the variants are our Triton kernel, grid_sample and, if it is installed, deformops, in
float32 and bfloat16; beside the time stands the rate of the bytes that must move through memory and cache, also as a
share of the limit: an H200's memory moves 4.8 TB/s, its cache an assumed 5.5 TB/s (`--memory-rate`, `--cache-rate` for
other devices).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from measuring import Recording, parser, recording
from torch import Tensor

from smidgen.nn.deformable_attention import SamplingMethod, sample_deformable

HEADS, DIM, POINTS = 8, 32, 4
FULL = ((100, 167), (50, 84), (25, 42), (13, 21))  # 800 x 1333 px
QUICK = ((40, 40), (20, 20), (10, 10), (5, 5))  # 320 x 320 px

Shapes = tuple[tuple[int, int], ...]
Sample = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Inputs:
    value: Tensor
    locations: Tensor
    weights: Tensor

    def moved(self, dtype: torch.dtype, places: torch.dtype) -> Inputs:
        """On the GPU, values in one number format and the rest in another."""
        rest = (each.to("cuda", places) for each in (self.locations, self.weights))
        return Inputs(self.value.to("cuda", dtype), *rest)


def main() -> None:
    options = _options()
    shapes = QUICK if options.quick else FULL
    cells = sum(rows * columns for rows, columns in shapes)
    part = None if options.images == 1 else f"images_{options.images}"
    with recording(__file__, options, part) as record:
        on_cpu = cpu_samples(record, shapes) if options.device == "cpu" else {}
        for name, num_queries in (("encoder", cells), ("decoder", 300), ("decoder", 900)):
            places = encoder_places(shapes) if name == "encoder" else torch.rand(num_queries, 2)
            inputs = make_inputs(shapes, places, options.images)
            for training in (False, True):
                title = f"{name}, {num_queries:,} queries, {'forward and backward' if training else 'forward'}"
                if on_cpu:
                    measure_on_cpu(record, title, on_cpu, inputs, training)
                else:
                    measure_on_gpu(record, title, shapes, inputs, training)


def measure_on_cpu(record: Recording, title: str, samples: dict[str, Sample], inputs: Inputs, training: bool) -> None:
    calls = {variant: partial(run, sample, inputs, training) for variant, sample in samples.items()}
    # Few queries take milliseconds, and some rounds more cost little.
    rounds = record.rounds if title.startswith("encoder") else 4 * record.rounds
    measured = record.measure(title, calls, against=next(iter(calls)), rounds=rounds, memory=True)
    shares = {f"share_of_the_memory_of_{measured.against}": measured.memory_ratio("auto")}
    faster = str(measured.ratio("auto", "grid_sample"))
    record.count(f"{title}, chosen by itself", against_grid_sample=faster, **shares)


def measure_on_gpu(record: Recording, title: str, shapes: Shapes, inputs: Inputs, training: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        samples = {method: ours(shapes, method) for method in ("grid_sample", "triton")} | deformops(record, shapes)
        # deformops wants all its inputs in one dtype; ours reads half precision values at float32 places.
        places = dict.fromkeys(samples, torch.float32) | {"deformops": dtype}
        moved = {variant: inputs.moved(dtype, places[variant]) for variant in samples}
        calls = {variant: partial(run, sample, moved[variant], training) for variant, sample in samples.items()}
        name = f"{title}, {str(dtype).removeprefix('torch.')}"
        measured = record.measure(name, calls, against="grid_sample", warm_ups=3, memory=True, device="cuda")
        for variant in samples:
            seconds = median(measured[variant].seconds)
            record.count(f"{name}, {variant}", **rates(moved[variant], training, seconds, record.options))


def encoder_places(shapes: Shapes) -> Tensor:
    """Centers (x, y) of all cells of all levels."""
    places = []
    for rows, columns in shapes:
        y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
        places.append(torch.stack([x, y], dim=-1).flatten(0, 1))
    return torch.cat(places)


def make_inputs(shapes: Shapes, places: Tensor, images: int = 1) -> Inputs:
    """Random values and weights, and locations around `places`, the same of every image."""
    axes = (images, len(places), HEADS, len(shapes), POINTS)
    wh = torch.tensor([(columns, rows) for rows, columns in shapes])[:, None]
    locations = places[None, :, None, None, None] + 2 * torch.randn(*axes, 2) / wh
    value = torch.randn(images, sum(rows * columns for rows, columns in shapes), HEADS, DIM)
    return Inputs(value, locations, torch.randn(axes).flatten(3).softmax(-1).view(axes))


def cpu_samples(record: Recording, shapes: Shapes) -> dict[str, Sample]:
    """The peer, where it is installed, and our ways."""
    methods: tuple[SamplingMethod, ...] = ("grid_sample", "embedding_bag", "auto")
    return peer(record, shapes) | {method: ours(shapes, method) for method in methods}


def peer(record: Recording, shapes: Shapes) -> dict[str, Sample]:
    """transformers' core in our argument order."""
    library = record.peer("transformers.models.deformable_detr.modeling_deformable_detr")
    if library is None:
        return {}
    core, sizes = library.MultiScaleDeformableAttention(), torch.tensor(shapes).reshape(-1, 2)
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)

    def sample(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        answer: Tensor = core(value, sizes, list(shapes), starts, locations, weights, 64)
        return answer

    return {"transformers": sample}


def deformops(record: Recording, shapes: Shapes) -> dict[str, Sample]:
    """The peer on a GPU in our argument order, or nothing where it is not installed."""
    library = record.peer("deformops.registry")
    if library is None:
        return {}
    sizes = torch.tensor(shapes, device="cuda")
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
    return {
        "deformops": lambda value, locations, weights: library.msda(value, sizes, starts, locations, weights.flatten(3))
    }


def ours(shapes: Shapes, method: SamplingMethod) -> Sample:
    return lambda value, locations, weights: sample_deformable(value, shapes, locations, weights, method=method)


def run(sample: Sample, inputs: Inputs, training: bool) -> None:
    """One call, with the gradients of all three inputs if training."""
    tensors = [each.detach().requires_grad_(training) for each in (inputs.value, inputs.locations, inputs.weights)]
    output = sample(*tensors)
    if training:
        output.backward(torch.ones_like(output))


def rates(inputs: Inputs, training: bool, seconds: float, options: argparse.Namespace) -> dict[str, float]:
    """TB/s through memory and cache, and their shares of the limits."""
    memory, cache = (moved / seconds / 1e12 for moved in bytes_to_move(inputs, training))
    return {
        "memory_tb_s": memory,
        "memory_share": memory / options.memory_rate,
        "cache_tb_s": cache,
        "cache_share": cache / options.cache_rate,
    }


def bytes_to_move(inputs: Inputs, training: bool) -> tuple[int, int]:
    """Least bytes through the memory (each tensor once) and through the cache (four corners of every sample).

    Backward reads everything again and writes its gradient; corners are read once and added to in float32 once.
    """
    tensors = (inputs.value, inputs.locations, inputs.weights)
    output = inputs.weights.shape[0] * inputs.weights.shape[1] * HEADS * DIM * inputs.value.element_size()
    once = sum(each.nbytes for each in tensors)
    corner_channels = 4 * inputs.weights.numel() * DIM
    gathered = corner_channels * inputs.value.element_size()
    if not training:
        return once + output, gathered
    return 3 * once + 2 * output, 2 * gathered + 4 * corner_channels


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=5)
    options.add_argument("--images", type=int, default=1, help="of a batch")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--memory-rate", type=float, default=4.8, help="TB/s of the GPU's memory")
    options.add_argument("--cache-rate", type=float, default=5.5, help="TB/s of the GPU's second-level cache")
    return options.parse_args()


if __name__ == "__main__":
    main()
