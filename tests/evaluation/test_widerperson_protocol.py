from __future__ import annotations

import math
from typing import Any

import pytest

from smidgen.evaluation import Protocol, load_protocol, score
from smidgen.evaluation.protocol import Figure

# Image 1: two pedestrians, a low one, and a crowd; image 2: one pedestrian. Boxes are x, y, width, height.
OBJECTS = [(1, [0, 0, 20, 50], 0), (1, [100, 0, 20, 50], 0), (1, [200, 0, 8, 20], 0), (2, [0, 0, 20, 60], 0)]
CROWD = (1, [300, 0, 100, 100], 1)


def ground_truth() -> dict[str, Any]:
    return {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1, "name": "pedestrian"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": 1, "bbox": box, "iscrowd": crowd}
            for number, (image, box, crowd) in enumerate([*OBJECTS, CROWD], start=1)
        ],
    }


def found(image: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": 1, "bbox": box, "score": score}


def test_figures_by_hand():
    results = [
        found(1, OBJECTS[0][1], 0.9),
        found(1, [320, 20, 20, 50], 0.85),  # in the crowd: neither right nor wrong
        found(1, [500, 0, 20, 50], 0.8),  # wrong: 0.5 false positives per image
        found(2, OBJECTS[3][1], 0.7),
        found(1, OBJECTS[2][1], 0.6),  # the low one: neither
        found(1, OBJECTS[1][1], 0.005),  # right, but below the score floor
    ]
    figures = score(ground_truth(), results, "widerperson").metrics
    assert figures["recall"] == pytest.approx(2 / 3)
    # Down to 0.316 false positives per image 2/3 are missed, at 0.562 and 1 one third.
    assert figures["mMR"] == pytest.approx(math.exp((7 * math.log(2 / 3) + 2 * math.log(1 / 3)) / 9))
    assert figures["AP"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 3)


def test_perfect_and_blind():
    perfect = [found(image, box, 0.5) for image, box, _ in OBJECTS]
    figures = score(ground_truth(), perfect, "widerperson")
    assert figures.metrics["AP"] == figures.metrics["recall"] == 1.0 and figures.metrics["mMR"] < 1e-9
    assert figures.per_class["pedestrian"]["mMR"] == figures.metrics["mMR"]
    assert score(ground_truth(), [], "widerperson").metrics == {"AP": 0.0, "recall": 0.0, "mMR": 1.0}
    nobody = {**ground_truth(), "annotations": []}
    assert set(score(nobody, perfect, "widerperson").metrics.values()) == {-1.0}


def test_every_table_says_what_is_too_low():
    evaluation = score(ground_truth(), [], "widerperson")
    assert evaluation.settings["objects"] == 3
    text = evaluation.table()
    stated = ("objects of at most 20 px height are ignored", "scores from 0.01", "plain area", "3 objects, 2 ignored")
    for part in stated:
        assert part in text
    assert "101-point" not in text


def test_a_measure_at_one_threshold_needs_one():
    known = load_protocol("coco")
    with pytest.raises(ValueError, match="log_average_miss_rate needs one iou threshold"):
        Protocol(
            name="x",
            version=1,
            iou_thresholds=(0.5,),
            areas=known.areas,
            detection_limits=(10,),
            figures={"mMR": Figure(measure="log_average_miss_rate")},
        )
