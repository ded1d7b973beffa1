"""A whole QueryDet-R50 with its cascade against the same detector computing every cell, ratios of one run.

An 800 x 1333 image, 80 classes, levels P2 to P7, one thread, fp32; backbone, pyramid, all heads and the readout are
timed. Weights are random, so the cascade is told how much to compute: of the query maps' cells the best-scored ones,
as many as give about the asked share of computed cells of P2 and P3, context included (`cascade.budget`); what was
computed is read from the output and printed. Their places are scattered, where those of objects lie in groups, so
that most of the share is context. Time is that of the one thread that computes, in turns.

    python benchmarks/cascade_detector.py [--model query_det_r50] [--shares 0.5 1 2 5] [--rounds 3] [--size 800x1333]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from smidgen.decoder.cascaded_head import ComputedCells
from smidgen.evaluation.flop_count import random_image
from smidgen.models import create_model
from smidgen.models.dense_config import CascadeConfig
from smidgen.structures import evidence_of

CELLS_OF_A_QUERY = 36
"""Four keys and their 5 x 5 contexts."""


@torch.inference_mode()
def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    height, width = (int(side) for side in options.size.split("x"))
    images = random_image((height, width), torch.device("cpu"))
    models = {None: _model(options.model, None)} | {share: _model(options.model, share) for share in options.shares}
    times: dict[float | None, list[float]] = {share: [] for share in models}
    for _ in range(options.rounds):
        for share, model in models.items():
            times[share].append(_seconds(model, images, (height, width)))
    print(f"{options.model}, {options.size} px, 80 classes, one thread, fp32, {options.rounds} rounds")
    print(f"every cell: {statistics.median(times[None]):.2f} s")
    for share in options.shares:
        evidence = evidence_of(models[share](images).evidence, ComputedCells)
        assert evidence is not None
        ratios = [dense / sparse for dense, sparse in zip(times[None], times[share], strict=True)]
        print(
            f"{evidence.share:5.1%} of P2 and P3 computed: {statistics.median(times[share]):.2f} s, "
            f"{statistics.median(ratios):.2f}x faster ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def _model(name: str, share: float | None) -> Any:
    torch.manual_seed(0)
    budget = None if share is None else share / 100 * 4 / CELLS_OF_A_QUERY
    cascade = None if share is None else CascadeConfig(threshold=0.0, budget=budget)
    return create_model(name, num_classes=80, cascade=cascade).eval()


def _seconds(model: Any, images: Any, size_hw: tuple[int, int]) -> float:
    start = time.thread_time()
    model.detect(images, [size_hw])
    return time.thread_time() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="query_det_r50")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 1, 2, 5], help="per cent")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="800x1333")
    return parser.parse_args()


if __name__ == "__main__":
    main()
