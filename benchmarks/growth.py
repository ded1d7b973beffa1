"""How cost grows: with the side of the image, queries, objects and images in a batch; curves in docs/performance.md.

    python benchmarks/growth.py [--axes side queries objects batch] [--rounds 3] [--quick]
    python benchmarks/growth.py --draw          pictures of the results that are there, without measuring

dino_nano (strides 8 to 32, random weights) with the fast sampling, with grid_sample, and in bfloat16: squares of
400 to 3200 px, 100 to 1500 queries at 640 px, batches of 1 to 8 at 640 px. Objects, 10 to 2000 in one image: assignment
to 900 queries, denoising queries, a whole training step at 320 px; and scoring ten images of so many objects and twice
as many detections, beside the peers. Each axis has its own file of results (`growth_side.json`, ...).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from evaluation import crowded_images, peers, without_olrp
from measuring import Recording, parser, recording
from measuring.growth_chart import draw
from measuring.record import RESULTS
from sampling_in_a_detector import sampling_with
from torch import nn

from smidgen import create_model, optimize
from smidgen.assignment import HungarianAssignment
from smidgen.evaluation import load_protocol, score
from smidgen.models import create_criterion
from smidgen.queries.denoising import ContrastiveDenoising
from smidgen.structures import ImageBatch, Predictions, Target

SIDES_PX = (400, 566, 800, 1131, 1600, 2263, 3200)
QUERIES = (100, 200, 300, 450, 600, 900, 1200, 1500)
OBJECTS = (10, 30, 100, 300, 1000, 2000)
BATCHES = (1, 2, 4, 8)
CLASSES, SIDE_PX, TRAINING_PX = 8, 640, 320
SCORED_IMAGES, MOST_FOR_PYCOCOTOOLS = 10, 300


def main() -> None:
    options = _options()
    if options.draw:
        draw(RESULTS)
        return
    for axis in options.axes:
        with recording(__file__, options, part=axis) as record:
            AXES[axis](record)
    if not options.quick:
        draw(RESULTS)


@torch.inference_mode()
def grow_side(record: Recording) -> None:
    variants = ways_to_detect(create_model("dino_nano", num_classes=CLASSES).eval())
    for side in SIDES_PX[:2] if record.options.quick else SIDES_PX:
        detect(record, f"dino_nano, {side} px", variants, noise(1, side), ("side_px", side), memory=True)


@torch.inference_mode()
def grow_queries(record: Recording) -> None:
    for queries in QUERIES[:2] if record.options.quick else QUERIES:
        variants = ways_to_detect(create_model("dino_nano", num_classes=CLASSES, num_queries=queries).eval())
        detect(record, f"dino_nano, {queries} queries", variants, noise(1, SIDE_PX), ("queries", queries))


@torch.inference_mode()
def grow_batch(record: Recording) -> None:
    variants = ways_to_detect(create_model("dino_nano", num_classes=CLASSES).eval())
    for size in BATCHES[:2] if record.options.quick else BATCHES:
        detect(record, f"dino_nano, batch of {size}", variants, noise(size, SIDE_PX), ("batch", size), memory=True)


def detect(
    record: Recording,
    title: str,
    variants: dict[str, nn.Module],
    images: ImageBatch,
    at: tuple[str, float],
    memory: bool = False,
) -> None:
    calls = {name: partial(variant, images) for name, variant in variants.items()}
    record.measure(title, calls, against="grid_sample", at=at, memory=memory)


def ways_to_detect(model: nn.Module) -> dict[str, nn.Module]:
    """By grid_sample, as it is, and in bfloat16 (optimized in float32 it is as it was: it has no norms to fold)."""
    models = {"grid_sample": sampling_with(model, "grid_sample"), "fast sampling": model}
    return models | {"fast sampling, bf16": optimize(model, "bf16")}


def grow_objects(record: Recording) -> None:
    model = create_model("dino_nano", num_classes=CLASSES).train()
    criterion = create_criterion(model)
    rule, denoising = HungarianAssignment(), ContrastiveDenoising(CLASSES, 256, max_objects=None)
    predictions = Predictions(torch.randn(1, 900, CLASSES), torch.rand(1, 900, 4) * 0.5 + 0.1)
    for objects in OBJECTS[:2] if record.options.quick else OBJECTS:
        targets = [objects_on_an_image(objects)]
        calls: dict[str, Callable[[], Any]] = {
            "training step": partial(step, model, criterion, noise(1, TRAINING_PX), targets),
            "assignment": partial(rule, predictions, targets),
            "denoising queries": partial(without_gradients, denoising, targets),
        }
        record.measure(f"{objects} objects", calls, against="training step", at=("objects", objects))
        score_objects(record, objects)


def score_objects(record: Recording, objects: int) -> None:
    lists = crowded_images(SCORED_IMAGES, 2 * objects, objects)
    protocol = load_protocol("aitod")
    ours: dict[str, Callable[[], Any]] = {"smidgen": lambda: score(*lists, without_olrp(protocol))}
    # pycocotools takes seconds for every image of a thousand boxes.
    wanted = {"faster-coco-eval"} | ({"pycocotools"} if objects <= MOST_FOR_PYCOCOTOOLS else set())
    calls = peers(record, lists, protocol, wanted) | ours
    title = f"scoring {SCORED_IMAGES} images of {objects} objects"
    record.measure(title, calls, against="smidgen", at=("scored_objects", objects))


def step(model: nn.Module, criterion: nn.Module, images: ImageBatch, targets: list[Target]) -> None:
    """Forward, losses and gradients; no optimizer."""
    torch.manual_seed(0)  # the same noise in every round
    sum(criterion(model(images, targets), targets, 0.5).values()).backward()
    model.zero_grad()


@torch.no_grad()
def without_gradients(denoising: nn.Module, targets: list[Target]) -> Any:
    return denoising(targets)


def objects_on_an_image(number: int) -> Target:
    corners = torch.rand(number, 2) * (TRAINING_PX - 20)
    boxes = torch.cat([corners, corners + 3 + 15 * torch.rand(number, 2)], dim=1)
    return Target.of(boxes, torch.randint(0, CLASSES, (number,)), (TRAINING_PX, TRAINING_PX))


def noise(images: int, side_px: int) -> ImageBatch:
    return ImageBatch.collate([torch.randint(0, 256, (3, side_px, side_px), dtype=torch.uint8) for _ in range(images)])


AXES = {"side": grow_side, "queries": grow_queries, "objects": grow_objects, "batch": grow_batch}


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=3)
    options.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    options.add_argument("--draw", action="store_true", help="draw the results that are there and measure nothing")
    return options.parse_args()


if __name__ == "__main__":
    main()
