"""Detectors of other libraries at their own published sizes beside ours, for orientation.

    python benchmarks/other_detectors.py [--rounds 3] [--quick]

These are different networks on different images, which find objects differently well: their ratios are no ratios of
equal work, and none says which to take. transformers' RT-DETRv2 and D-FINE at 640 x 640 px and RF-DETR at 560 x 560 px,
with the library's default configurations, beside ours at 800 x 1333 px and at 640 x 640 px; random weights, eager
float32, one image. --quick: our nano models at 320 x 320 px in place of ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measuring import Recording, parser, recording

from smidgen import create_model, optimize
from smidgen.evaluation.flop_count import random_image

PEERS = {"RTDetrV2": 640, "DFine": 640, "RfDetr": 560}
OURS, OURS_QUICK = ("dino_r50", "salience_detr_r50"), ("dino_nano", "salience_detr_nano")
SIZES_HW = ((640, 640), (800, 1333))
SIZES_QUICK_HW = ((320, 320),)


@torch.inference_mode()
def main() -> None:
    options = parser(__doc__, rounds=3).parse_args()
    with recording(__file__, options) as record:
        variants = their_variants(record) | our_variants(options)
        first = next(iter(variants))
        record.measure("detectors, each at its size: no equal work", variants, against=first, memory=True)


def their_variants(record: Recording) -> dict[str, Callable[[], Any]]:
    library = record.peer("transformers")
    variants: dict[str, Callable[[], Any]] = {}
    for name, side in PEERS.items() if library else ():
        if not hasattr(library, f"{name}ForObjectDetection"):
            record.count(f"transformers has no {name}")
            continue
        model = getattr(library, f"{name}ForObjectDetection")(getattr(library, f"{name}Config")()).eval()
        variants[f"transformers {name}, {side}x{side}"] = partial(model, torch.rand(1, 3, side, side))
    return variants


def our_variants(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Eager and optimized, both float32."""
    variants: dict[str, Callable[[], Any]] = {}
    for height, width in SIZES_QUICK_HW if options.quick else SIZES_HW:
        images = random_image((height, width), torch.device("cpu"))
        for name in OURS_QUICK if options.quick else OURS:
            model = create_model(name, num_classes=91).eval()
            variants[f"{name}, {height}x{width}"] = partial(model, images)
            variants[f"{name} optimized, {height}x{width}"] = partial(optimize(model), images)
    return variants


if __name__ == "__main__":
    main()
