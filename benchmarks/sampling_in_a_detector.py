"""What the fast sampling is worth in a whole Salience DETR: the same model with the grid_sample path, one run.

    python benchmarks/sampling_in_a_detector.py [--size 800x1333] [--model salience_detr_r50] [--rounds 3] [--quick]

Random weights in parity mode, one image, as trained and optimized in float32 and bfloat16, where the rest of the model
is faster; then with gradients, as in a training step (without targets: sums of what all decoder layers answer).
Both ways add up the same numbers in another order, so that answers differ by roundings; how far, and how many queries
start at the same tokens, is printed. --quick: the nano model at 256 x 320 px.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from measuring import Recording, parser, recording
from torch import nn

from smidgen import create_model, optimize
from smidgen.evaluation.flop_count import random_image
from smidgen.nn.deformable_attention import DeformableAttention, SamplingMethod
from smidgen.structures import ImageBatch


def main() -> None:
    models = ("salience_detr_r50", "salience_detr_nano")
    options = parser(__doc__, rounds=3, size=("800x1333", "256x320"), model=models).parse_args()
    with recording(__file__, options) as record:
        images = random_image(record.size_hw, torch.device("cpu"))
        model = create_model(options.model, num_classes=91, parity=True).eval()
        ways = {"grid_sample": sampling_with(model, "grid_sample"), "auto": model}
        work = f"{options.model}, {options.size}"
        measure_inference(record, work, ways, images)
        steps = {name: partial(with_gradients, way, images) for name, way in ways.items()}
        record.measure(f"{work}, forward and backward", steps, against="grid_sample", memory=True)


@torch.inference_mode()
def measure_inference(record: Recording, work: str, ways: dict[str, nn.Module], images: ImageBatch) -> None:
    """Both ways as trained, and both optimized."""
    ways = ways | {f"{name}, {kind}": optimize(way, kind) for kind in ("fp32", "bf16") for name, way in ways.items()}
    calls = {name: partial(way, images) for name, way in ways.items()}
    measured = record.measure(work, calls, against="grid_sample", memory=True)
    record.count("answers apart", **apart(measured.answers["grid_sample"], measured.answers["auto"]))
    for kind in ("fp32", "bf16"):
        ratio = measured.ratio(f"auto, {kind}", f"grid_sample, {kind}")
        record.count(f"auto against grid_sample, both optimized in {kind}", times_as_fast=str(ratio))


def with_gradients(model: nn.Module, images: ImageBatch) -> None:
    """A step's network part: all weights get gradients."""
    output: Any = model(images)
    layers = (*output.auxiliary, output.final)
    torch.stack([layer.logits.sum() + layer.boxes_cxcywh.sum() for layer in layers]).sum().backward()
    model.zero_grad(set_to_none=True)


def sampling_with(model: nn.Module, method: SamplingMethod) -> nn.Module:
    """A copy, whose deformable attention samples in one way."""
    changed = copy.deepcopy(model)
    for part in changed.modules():
        if isinstance(part, DeformableAttention):
            part.method = method
    return changed


def apart(one: Any, other: Any) -> dict[str, float]:
    """Largest differences of final logits and boxes, and the share of queries that start at the same token."""
    return {
        "logits": (one.final.logits - other.final.logits).abs().max().item(),
        "boxes": (one.final.boxes_cxcywh - other.final.boxes_cxcywh).abs().max().item(),
        "same_start": (one.token_index == other.token_index).double().mean().item(),
    }


if __name__ == "__main__":
    main()
