from __future__ import annotations

import pytest

from smidgen.evaluation import score


def document(boxes: list[list[float]]) -> dict:
    return {
        "images": [{"id": 1}],
        "annotations": [
            {"id": index + 1, "image_id": 1, "category_id": 1, "bbox": box} for index, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }


def found(box: list[float], value: float) -> dict:
    return {"image_id": 1, "category_id": 1, "bbox": box, "score": value}


def test_by_hand():
    # Two objects; found exactly, then a false alarm, then the second with IoU 0.8: errors 1/2, 2/3, (0.2/0.5 + 1)/3.
    truth = document([[0, 0, 10, 10], [50, 50, 10, 10]])
    results = [found([0, 0, 10, 10], 0.9), found([80, 80, 5, 5], 0.8), found([50, 50, 10, 8], 0.7)]
    metrics = score(truth, results, "aitod").metrics
    assert metrics["oLRP"] == pytest.approx(1.4 / 3)
    assert metrics["oLRP_localization"] == pytest.approx(0.1)
    assert metrics["oLRP_FP"] == pytest.approx(1 / 3)
    assert metrics["oLRP_FN"] == 0.0


def test_without_a_true_positive_there_are_no_parts():
    metrics = score(document([[0, 0, 10, 10]]), [found([50, 50, 5, 5], 0.9)], "aitod").metrics
    assert metrics["oLRP"] == 1.0
    assert metrics["oLRP_localization"] == metrics["oLRP_FP"] == metrics["oLRP_FN"] == -1.0
