"""Detections read from an observation against those the model gives when it is asked itself."""

from __future__ import annotations

import pytest
import torch

from smidgen import create_model
from smidgen.analysis.observation import observe
from smidgen.analysis.observed_detections import observed_detections, observed_results
from smidgen.structures import Classes, ImageBatch, Target


@pytest.mark.parametrize("name", ["dino_nano", "fcos_nano"])
def test_they_are_the_models_own_in_pixels_of_the_image_on_disk(name: str) -> None:
    torch.manual_seed(0)
    classes = Classes(("car", "bus"), (3, 7))
    model = create_model(name, classes=classes).eval()
    images = ImageBatch.collate([torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8) for _ in range(2)])
    targets = tuple(
        Target.of(
            torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (64, 96), image_id=number, original_hw=(128, 288)
        )
        for number in (5, 6)
    )
    with torch.inference_mode():
        expected = model.detect(images, [(128, 288)] * 2)
        seen = observe(model, images, targets)
    found = observed_detections(seen, classes)
    assert [len(one) for one in found] == [len(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.scores, other.scores.float(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.boxes_xyxy.sum(), other.boxes_xyxy.float().sum(), atol=1e-1, rtol=1e-4)
    results = observed_results(seen, classes, {0: 3})
    assert {row["image_id"] for row in results} <= {5, 6} and {row["category_id"] for row in results} <= {3}
