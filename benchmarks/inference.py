"""A whole Deformable DETR, as trained and optimized, against transformers' with equal weights.

    python benchmarks/inference.py [--size 800x1333] [--rounds 3] [--no-peer] [--quick]

One stage, ResNet-50, 91 classes, random weights, one image without padding. The peer is
DeformableDetrForObjectDetection in eager float32; our weights are converted from it, and how far logits and boxes are
apart is printed. --quick: a 128 x 160 px image, one round.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import Measurement, Recording, parser, recording
from torch import Tensor, nn

from smidgen import create_model, load, optimize
from smidgen.checkpoints import convert
from smidgen.structures import ImageBatch

SYSTEM = "deformable_detr_one_stage"
Answer = tuple[Tensor, Tensor]


@torch.inference_mode()
def main() -> None:
    options = _options()
    with recording(__file__, options) as record:
        images = ImageBatch.collate([torch.randn(3, *record.size_hw)])
        peer = None if options.no_peer else library_model(record)
        model = create_model(f"{SYSTEM}_r50", num_classes=91).eval() if peer is None else converted(peer)
        variants = our_variants(model, images)
        if peer is not None:
            variants = {"transformers": partial(library_answer, peer, images), **variants}
        against = next(iter(variants))
        measured = record.measure(f"{SYSTEM}_r50, {options.size}", variants, against=against, memory=True)
        compare(record, measured, against)


def compare(record: Recording, measured: Measurement, against: str) -> None:
    """How far the answers of all variants are from the first's."""
    for name, answer in measured.answers.items():
        logits, boxes = (
            (ours - theirs).abs().max().item() for ours, theirs in zip(answer, measured.answers[against], strict=True)
        )
        record.count(f"{name} and {against} apart", logits=logits, boxes=boxes)


def library_model(record: Recording) -> nn.Module | None:
    """transformers' detector with random weights; None where the library is not installed."""
    library = record.peer("transformers")
    if library is None:
        return None
    config = library.DeformableDetrConfig(use_timm_backbone=True, backbone="resnet50", use_pretrained_backbone=False)
    model: nn.Module = library.DeformableDetrForObjectDetection(config).eval()
    return model


def converted(peer: nn.Module) -> nn.Module:
    """Ours with the peer's weights."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(peer.state_dict(), Path(folder) / "weights.bin")
        convert(Path(folder) / "weights.bin", SYSTEM, Path(folder) / "ours")
        return load(Path(folder) / "ours")


def our_variants(model: nn.Module, images: ImageBatch) -> dict[str, Callable[[], Answer]]:
    """As trained, rewritten, and rewritten in bfloat16."""
    models = {"eager": model, "optimized fp32": optimize(model), "optimized bf16": optimize(model, "bf16")}
    return {name: partial(our_answer, each, images) for name, each in models.items()}


def our_answer(model: nn.Module, images: ImageBatch) -> Answer:
    output: Any = model(images)
    return output.final.logits, output.final.boxes_cxcywh


def library_answer(model: nn.Module, images: ImageBatch) -> Answer:
    output = model(images.pixels, pixel_mask=(~images.padding).long())
    return output.logits, output.pred_boxes


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=3, size=("800x1333", "128x160"))
    options.add_argument("--no-peer", action="store_true", help="our variants alone")
    return options.parse_args()


if __name__ == "__main__":
    main()
