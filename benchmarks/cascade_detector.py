"""A whole QueryDet-R50 with its cascade against the same detector computing every cell, ratios of one run.

An 800 x 1333 image, 80 classes, levels P2 to P7, fp32; backbone, pyramid, all heads and the readout are timed. Weights
are random, so the cascade is told how much to compute: of the query maps' cells the best-scored ones, as many as give
about the asked share of computed cells of P2 and P3, context included (`cascade.budget`); what was computed is read
from the output and printed. Their places are scattered, where those of objects lie in groups, so that most of the share
is context.

    python benchmarks/cascade_detector.py [--model query_det_r50] [--shares 0.5 1 2 5] [--size 800x1333] [--quick]
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from measuring import parser, recording

from smidgen.decoder.cascaded_head import ComputedCells
from smidgen.evaluation.flop_count import random_image
from smidgen.models import create_model
from smidgen.models.dense_config import CascadeConfig
from smidgen.structures import evidence_of

CELLS_OF_A_QUERY = 36
"""Four keys and their 5 x 5 contexts."""
EVERY_CELL = "every cell"


@torch.inference_mode()
def main() -> None:
    options = _options()
    with recording(__file__, options) as record:
        images = random_image(record.size_hw, torch.device("cpu"))
        models = {f"budget for {share:g} %": _model(options.model, share) for share in options.shares}
        detectors = {EVERY_CELL: _model(options.model, None), **models}
        calls = {name: partial(model.detect, images, [record.size_hw]) for name, model in detectors.items()}
        record.measure(f"{options.model}, {options.size}", calls, against=EVERY_CELL)
        for name, model in models.items():
            evidence = evidence_of(model(images).evidence, ComputedCells)
            assert evidence is not None
            record.count(name, computed_share_of_p2_and_p3=evidence.share)


def _model(name: str, share: float | None) -> Any:
    torch.manual_seed(0)
    budget = None if share is None else share / 100 * 4 / CELLS_OF_A_QUERY
    cascade = None if share is None else CascadeConfig(threshold=0.0, budget=budget)
    return create_model(name, num_classes=80, cascade=cascade).eval()


def _options() -> argparse.Namespace:
    models = ("query_det_r50", "query_det_nano")
    options = parser(__doc__, rounds=3, size=("800x1333", "512x640"), model=models)
    options.add_argument("--shares", type=float, nargs="+", default=[0.5, 1, 2, 5], help="per cent")
    return options.parse_args()


if __name__ == "__main__":
    main()
