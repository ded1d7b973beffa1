"""Whole detectors and what feeds and judges them: calls do not grow with pixels, images or boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from counted_work.counter import python_lines, tensor_work
from torch import nn

from smidgen.data.geometry import resize_pixels
from smidgen.evaluation import score
from smidgen.features.timm_backbone import TimmBackbone
from smidgen.models import create_model
from smidgen.structures import ImageBatch, Preprocessing

CALLS_PER_IMAGE = {"salience_detr_nano": 5, "faster_rcnn_nano": 35}
"""Of suppression, which goes image by image, and of choosing regions. All other systems: none."""
LINES_PER_IMAGE = {"salience_detr_nano": 5, "faster_rcnn_nano": 10}
SYSTEMS = [
    *("dino_nano", "salience_detr_nano", "lsq_detr_nano", "cross_dino_nano", "paq_dino_nano"),
    *("query_det_nano", "faster_rcnn_nano"),
]


def batch(images: int, height: int, width: int) -> ImageBatch:
    return ImageBatch.collate([torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(images)], 32)


@pytest.mark.parametrize("name", SYSTEMS)
@torch.inference_mode()
def test_a_detector_calls_as_often_for_large_images_and_batches(name: str) -> None:
    """Operators and lines of Python of a forward pass: those of two small images, whatever is seen."""
    model = create_model(name, num_classes=3).eval()
    small, large, more = batch(2, 64, 64), batch(2, 96, 128), batch(4, 64, 64)
    model(small)
    expected = tensor_work(model, small).calls
    assert tensor_work(model, large).calls == expected
    assert tensor_work(model, more).calls <= expected + 2 * CALLS_PER_IMAGE.get(name, 0)
    assert python_lines(model, more) <= python_lines(model, large) + 2 * LINES_PER_IMAGE.get(name, 0)


def test_a_batch_travels_in_bytes() -> None:
    """Three bytes of color and one of padding for each pixel of the canvas, and nothing besides is made on the way."""
    images = [torch.zeros(3, *hw, dtype=torch.uint8) for hw in ((40, 64), (64, 50))]
    work = tensor_work(lambda: ImageBatch.collate(images).pixels)
    assert work.allocated == 2 * 64 * 64 * (3 + 1)
    assert ImageBatch.collate(images).pixels.dtype == torch.uint8


def test_normalizing_costs_a_few_calls_and_one_copy_in_float32() -> None:
    """On the device: the difference, which is divided and masked where it lies."""
    few, many = batch(2, 64, 64), batch(5, 96, 128)
    works = [tensor_work(lambda seen=seen: seen.normalized(Preprocessing()).pixels) for seen in (few, many)]
    assert works[0].calls == works[1].calls <= 20
    float_copy = 4 * many.pixels.numel()
    assert works[1].allocated < 1.1 * float_copy


@torch.inference_mode()
def test_frozen_norms_of_a_backbone_make_no_maps() -> None:
    """All that it allocates are the answers of its convolutions (its activations and sums overwrite, too)."""
    backbone = TimmBackbone("resnet14t", norm="frozen").eval()
    images = batch(2, 96, 128).normalized(Preprocessing())
    answers: list[int] = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            module.register_forward_hook(lambda _, __, answer: answers.append(answer.nbytes))
    work = tensor_work(lambda: backbone(images).levels)
    assert work.allocated < 1.1 * sum(answers)


def test_resizing_is_a_few_calls_of_any_image() -> None:
    small, large = torch.zeros(3, 20, 30, dtype=torch.uint8), torch.zeros(3, 200, 150, dtype=torch.uint8)
    works = [tensor_work(resize_pixels, image, (80, 64)) for image in (small, large)]
    assert works[0].calls == works[1].calls


def annotated(images: int, objects: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Images of 600 px with so many objects of two classes in rows, and a shifted detection of each."""
    rng = np.random.default_rng(0)
    annotations, predictions = [], []
    for image, place in np.ndindex(images, objects):
        x, y = place % 30 * 20.0, place // 30 * 20.0
        shared = {"image_id": image, "category_id": 1 + place % 2}
        annotation = {"id": len(annotations) + 1, "bbox": [x, y, 10.0, 12.0], "area": 120.0, "iscrowd": 0}
        annotations.append(shared | annotation)
        predictions.append(shared | {"bbox": [x + 1, y, 10.0, 12.0], "score": float(rng.random())})
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "boat"}]
    sizes = [{"id": image, "width": 600, "height": 600} for image in range(images)]
    return {"images": sizes, "annotations": annotations, "categories": categories}, predictions


READING = ("annotations.py", "entry_columns.py")
MOST_LINES_PER_ENTRY, MOST_LINES_PER_IMAGE = 20, 30


@pytest.mark.parametrize("protocol", ["coco", "aitod", "visdrone"])
def test_scoring_does_not_loop_over_boxes(protocol: str) -> None:
    """Once the entries are read, as many lines of Python for a hundred boxes an image as for five."""
    few, many, images = (annotated(*sizes) for sizes in ((3, 5), (3, 100), (12, 5)))
    lines = [python_lines(score, *case, protocol, leave_out=READING) for case in (few, many, images)]
    assert lines[0] == lines[1]
    assert lines[2] - lines[0] <= 9 * MOST_LINES_PER_IMAGE


def test_reading_entries_is_linear_in_them() -> None:
    few, many = annotated(3, 5), annotated(3, 100)
    read = [python_lines(score, *case) for case in (few, many)]
    assert read[1] - read[0] <= MOST_LINES_PER_ENTRY * 2 * 3 * 95
