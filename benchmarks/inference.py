"""A whole detector, as trained and optimized, against transformers' with equal weights: CPU time of one thread.

    python benchmarks/inference.py [--size 400x667] [--rounds 3] [--no-peer] [--quick]

Deformable DETR in one stage with ResNet-50, 91 classes, random weights, one image without padding. The peer is
DeformableDetrForObjectDetection in eager float32; our weights are converted from it, and how far logits and boxes are
apart is printed. Variants take turns, and a ratio is the median over rounds of the ratio within a round (smallest and
largest in brackets). The published setting is --size 800x1333. --quick: a 128 x 160 px image, one round.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from smidgen import create_model, load, optimize
from smidgen.checkpoints import convert
from smidgen.inference.bfloat16 import bfloat16_is_fast
from smidgen.structures import ImageBatch

SYSTEM = "deformable_detr_one_stage"
Answer = tuple[Tensor, Tensor]


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = "128x160" if options.quick else options.size
    height, width = map(int, size.split("x"))
    fast = bfloat16_is_fast(torch.device("cpu"))
    print(f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}, bf16 in hardware: {fast}, {height} x {width} px")
    peer = None if options.no_peer else library_model()
    variants = our_variants(create_model(f"{SYSTEM}_r50", num_classes=91).eval() if peer is None else converted(peer))
    if peer is not None:
        variants = {"transformers": lambda images: library_answer(peer, images), **variants}
    images = ImageBatch.collate([torch.randn(3, height, width)])
    report(variants, images, 1 if options.quick else options.rounds)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="400x667", help="height x width in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="our variants alone")
    parser.add_argument("--quick", action="store_true", help="a small image, one round")
    return parser.parse_args()


def library_model() -> nn.Module | None:
    """transformers' detector with random weights; None where the library is not installed."""
    try:
        from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection
    except ImportError:
        print("transformers is not installed: no peer")
        return None
    config = DeformableDetrConfig(use_timm_backbone=True, backbone="resnet50", use_pretrained_backbone=False)
    return DeformableDetrForObjectDetection(config).eval()


def converted(peer: nn.Module) -> nn.Module:
    """Ours with the peer's weights."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(peer.state_dict(), Path(folder) / "weights.bin")
        convert(Path(folder) / "weights.bin", SYSTEM, Path(folder) / "ours")
        return load(Path(folder) / "ours")


def our_variants(model: nn.Module) -> dict[str, Callable[[ImageBatch], Answer]]:
    """As trained, rewritten, and rewritten in bfloat16."""
    models = {"eager": model, "optimized fp32": optimize(model), "optimized bf16": optimize(model, "bf16")}
    return {name: lambda images, each=each: our_answer(each, images) for name, each in models.items()}


def our_answer(model: nn.Module, images: ImageBatch) -> Answer:
    output: Any = model(images)
    return output.final.logits, output.final.boxes_cxcywh


def library_answer(model: nn.Module, images: ImageBatch) -> Answer:
    output = model(images.pixels, pixel_mask=(~images.padding).long())
    return output.logits, output.pred_boxes


@torch.inference_mode()
def report(variants: dict[str, Callable[[ImageBatch], Answer]], images: ImageBatch, rounds: int) -> None:
    """Print seconds, how many times as fast as the first variant, and how far its answers are away."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    answers: dict[str, Answer] = {}
    for turn in range(rounds + 1):
        for name, variant in variants.items():
            start = time.process_time()
            answers[name] = variant(images)
            if turn:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    first = next(iter(variants))
    for name, spent in seconds.items():
        ratios = sorted(before / after for before, after in zip(seconds[first], spent, strict=True))
        apart = [(ours - theirs).abs().max().item() for ours, theirs in zip(answers[name], answers[first], strict=True)]
        print(
            f"  {name:15} {median(spent):7.2f} s  x {median(ratios):5.2f}  ({ratios[0]:.2f}-{ratios[-1]:.2f})  "
            f"logits {apart[0]:.0e}, boxes {apart[1]:.0e} apart"
        )


if __name__ == "__main__":
    main()
