"""What counting costs: multiply-adds of DQ-DETR's counter and of the light one, and their share of the whole detector.

    python benchmarks/counting_cost.py [--quick] [--rounds N]

For the finest memory level of an 800 x 800 image at width 256 (200 x 200 cells), as in lsq_detr_r50, and CPU seconds of
one thread at width 128 on 64 x 64 cells; the counters take turns and a ratio is the median over rounds of the ratio
within a round (smallest and largest in brackets). --quick: only the small one, and the share in lsq_detr_nano.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import nn

from smidgen.evaluation.cost import profile
from smidgen.models import create_model
from smidgen.recipes.counting import COUNTERS, counter_gmacs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for width, cells in [(128, 64)] if options.quick else [(128, 64), (256, 200)]:
        show_multiply_adds(width, cells)
    show_seconds(128, 64, options.rounds)
    for size, name in [(256, "lsq_detr_nano")] if options.quick else [(256, "lsq_detr_nano"), (800, "lsq_detr_r50")]:
        show_share(name, size)


def show_multiply_adds(width: int, cells: int) -> None:
    costs = {name: counter_gmacs(make(width), width, (cells, cells)) for name, make in COUNTERS.items()}
    ratio = costs["light"] / costs["categorical"]
    print(
        f"width {width}, {cells} x {cells} cells: categorical {costs['categorical']:.2f} GMAC, "
        f"light {costs['light']:.3f} GMAC, {ratio:.2%} of it"
    )


def show_seconds(width: int, cells: int, rounds: int) -> None:
    counters = {name: make(width) for name, make in COUNTERS.items()}
    inputs = _inputs(width, cells)
    times = [{name: _seconds(counter, inputs) for name, counter in counters.items()} for _ in range(rounds + 1)][1:]
    ratios = sorted(spent["light"] / spent["categorical"] for spent in times)
    print(
        f"width {width}, {cells} x {cells} cells, forward on one thread: light takes {median(ratios):.2%} of the "
        f"categorical counter's time ({ratios[0]:.2%} ... {ratios[-1]:.2%}, {rounds} rounds)"
    )


def show_share(name: str, size: int) -> None:
    """The counter's share of a whole detector."""
    for counting, make in COUNTERS.items():
        detector = create_model(name, num_classes=9, counting=counting)
        width, stride = detector.config.transformer.width, detector.config.backbone.strides[0]
        whole = profile(detector, size_hw=(size, size), latency=False).gmacs_without_sampling
        part = counter_gmacs(make(width), width, (size // stride, size // stride))
        print(
            f"{name} at {size} x {size}, {counting}: {part:.2f} of {whole:.2f} GMAC without sampling, "
            f"{part / whole:.2%}"
        )


def _inputs(width: int, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, width, cells, cells), torch.zeros(1, cells, cells, dtype=torch.bool)


@torch.no_grad()
def _seconds(counter: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor]) -> float:
    start = time.perf_counter()
    counter(*inputs)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
