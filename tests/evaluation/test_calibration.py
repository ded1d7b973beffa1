from __future__ import annotations

import hotcoco
import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol
from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.calibration import Calibration, calibration
from smidgen.evaluation.engine import Engine

COCO = load_protocol("coco")


def measured(ground_truth: dict, predictions: list[dict], least_score: float = 0.0) -> Calibration:
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    matchings = {
        size: Engine(truth, results).match(thresholds=np.array([0.5]), area=area, limit=100)
        for size, area in COCO.areas.items()
    }
    return calibration(results, matchings, 0.5, least_score=least_score)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_errors_are_hotcocos(seed: int):
    ground_truth, predictions = random_case(seed)
    rng = np.random.default_rng(seed)
    predictions = [{**entry, "score": float(rng.random())} for entry in predictions]  # off the edges of the bins
    evaluator = hotcoco.COCOeval(hotcoco.COCO(ground_truth), hotcoco.COCO(ground_truth).load_res(predictions), "bbox")
    evaluator.evaluate()
    expected = evaluator.calibration(n_bins=10, iou_threshold=0.5)
    overall = measured(ground_truth, predictions).by_size[0]
    assert int(overall.detections.sum()) == expected["num_detections"]
    if expected["num_detections"]:
        assert overall.expected_error == pytest.approx(expected["ece"])
        assert overall.maximum_error == pytest.approx(expected["mce"])
    assert overall.detections.tolist() == [one["count"] for one in expected["bins"]]


def test_by_size_and_by_hand():
    objects = [[0, 0, 10, 10], [50, 50, 50, 50]]
    ground_truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in objects],
        "categories": [{"id": 1, "name": "a"}],
    }
    found = [(objects[0], 0.95), (objects[1], 0.55), ([200, 200, 10, 10], 0.75), ([300, 300, 10, 10], 0.05)]
    predictions = [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in found]
    by_size = {one.size: one for one in measured(ground_truth, predictions, least_score=0.1).by_size}
    small, medium = by_size["small"], by_size["medium"]
    assert small.detections.sum() == 2 and small.expected_error == pytest.approx((0.05 + 0.75) / 2)
    assert small.maximum_error == pytest.approx(0.75) and small.overconfidence == pytest.approx(0.35)
    assert medium.expected_error == pytest.approx(0.45) and medium.overconfidence == pytest.approx(-0.45)
    large = by_size["large"].to_json()
    assert large["expected_error"] == -1 and large["overconfidence"] is None and large["bins"][0]["accuracy"] is None


def test_scores_that_are_no_probabilities_are_refused():
    ground_truth, predictions = random_case(1)
    with pytest.raises(ValueError, match="expected scores in \\[0, 1\\]"):
        measured(ground_truth, [{**entry, "score": entry["score"] * 100} for entry in predictions])
