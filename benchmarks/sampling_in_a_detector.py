"""What the fast sampling is worth in a whole Salience DETR: the same model with grid_sample, one run.

    python benchmarks/sampling_in_a_detector.py [--size 800x1333] [--model salience_detr_r50] [--rounds 3] [--quick]

Three ways of sampling: the core in plain PyTorch that detectors in the field fall back to, taken from transformers
("usual core"); ours with grid_sample, one level at a time and points before queries; and what we choose by ourselves
("auto"). Random weights in parity mode, one image, as trained and optimized in float32 and bfloat16, where the rest of
the model is faster; then with gradients, as in a training step (without targets: sums of what all decoder layers
answer). All ways add up the same numbers in another order, so that answers differ by roundings; how far, and how many
queries start at the same tokens, is printed. --quick: the nano model at 256 x 320 px.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, cast

import torch
from deformable_attention import peer
from measuring import Recording, parser, recording
from torch import nn

from smidgen import create_model, optimize
from smidgen.evaluation.flop_count import random_image
from smidgen.nn.deformable_attention import _SAMPLERS, DeformableAttention, SamplingMethod
from smidgen.structures import ImageBatch


def main() -> None:
    models = ("salience_detr_r50", "salience_detr_nano")
    options = parser(__doc__, rounds=3, size=("800x1333", "256x320"), model=models).parse_args()
    with recording(__file__, options) as record:
        images = random_image(record.size_hw, torch.device("cpu"))
        model = create_model(options.model, num_classes=91, parity=True).eval()
        ways = {name: sampling_with(model, method) for name, method in methods(record).items()}
        work = f"{options.model}, {options.size}"
        measure_inference(record, work, ways, images)
        steps = {name: partial(with_gradients, way, images) for name, way in ways.items()}
        record.measure(f"{work}, forward and backward", steps, against=next(iter(ways)), memory=True)


@torch.inference_mode()
def measure_inference(record: Recording, work: str, ways: dict[str, nn.Module], images: ImageBatch) -> None:
    """Both ways as trained, and both optimized."""
    kinds = ("fp32", "bf16")
    optimized = {f"{name}, {kind}": optimize(way, kind) for kind in kinds for name, way in ways.items()}
    calls = {name: partial(way, images) for name, way in (ways | optimized).items()}
    measured = record.measure(work, calls, against=next(iter(ways)), memory=True)
    for name in list(ways)[:-1]:
        record.count(f"{name} and auto apart", **apart(measured.answers[name], measured.answers["auto"]))
        for kind in kinds:
            ratio = measured.ratio(f"auto, {kind}", f"{name}, {kind}")
            record.count(f"auto against {name}, both optimized in {kind}", times_as_fast=str(ratio))


def methods(record: Recording) -> dict[str, str]:
    """Names of the ways in turn, each with its sampling method; transformers' core becomes a method for the while."""
    ours = {"grid_sample": "grid_sample", "auto": "auto"}
    if not peer(record, ()):
        return ours
    _SAMPLERS["transformers"] = lambda value, shapes, *places: peer(record, shapes)["transformers"](value, *places)
    return {"usual core": "transformers"} | ours


def with_gradients(model: nn.Module, images: ImageBatch) -> None:
    """A step's network part: all weights get gradients."""
    output: Any = model(images)
    layers = (*output.auxiliary, output.final)
    torch.stack([layer.logits.sum() + layer.boxes_cxcywh.sum() for layer in layers]).sum().backward()
    model.zero_grad(set_to_none=True)


def sampling_with(model: nn.Module, method: str) -> nn.Module:
    """A copy, whose deformable attention samples in one way."""
    changed = copy.deepcopy(model)
    for part in changed.modules():
        if isinstance(part, DeformableAttention):
            part.method = cast(SamplingMethod, method)
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
