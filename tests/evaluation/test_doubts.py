from __future__ import annotations

from typing import Any

import pytest

from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.doubts import doubts

BOXES = [[300, 200, 20, 30], [350, 250, 30, 20], [100, 100, 40, 40]]


def said(changes: dict[str, Any] | None = None, *, keep: int = 3, width: float | None = 400) -> str:
    """The sentences about detections that are right but for these changes of each."""
    truth = read_ground_truth(
        {
            "images": [{"id": image, "width": width, "height": 300} for image in (1, 2, 3)],
            "annotations": [
                {"image_id": image, "category_id": image % 2 + 1, "bbox": box}
                for image, box in enumerate(BOXES, start=1)
            ],
            "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "car"}],
        }
    )
    found = [
        {"image_id": image, "category_id": image % 2 + 1, "bbox": box, "score": 0.02 * image} | (changes or {})
        for image, box in enumerate(BOXES, start=1)
    ]
    return "; ".join(doubts(truth, read_results(found[:keep], truth)))


def test_nothing_is_said_of_what_is_right():
    assert said() == said(keep=0) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": 87.5}, "scores are 87.5 to 87.5, not in [0, 1]"),
        ({"score": -1.5}, "logits"),
        ({"score": 0.3}, "no score is below 0.3"),
        ({"bbox": [5, 5, -2, 3]}, "3 boxes have a negative width or height"),
        ({"bbox": [0.2, 0.3, 0.1, 0.1]}, "shares of the image's sides"),
        ({"bbox": [300, 200, 320, 230]}, "are they corners"),
    ],
)
def test_what_is_strange_is_said(changes: dict[str, Any], words: str):
    assert words in said(changes)


def test_silent_images_and_classes_are_named():
    assert said(keep=1) == (
        "2 of 3 images with objects have no detection at all; classes with objects and without any detection: ship"
    )


def test_without_sizes_of_images_no_box_is_outside():
    assert "corners" not in said({"bbox": [300, 20, 320, 30]}, width=None)
