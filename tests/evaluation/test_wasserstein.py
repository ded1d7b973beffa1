from __future__ import annotations

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol
from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.average_precision import precision_by_size
from smidgen.evaluation.overlap import intersection_over_union
from smidgen.evaluation.wasserstein import likeness_precision_by_size, wasserstein_comparison

PROTOCOL = load_protocol("aitod")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_with_iou_as_the_measure_it_is_the_engines_ap(seed: int):
    ground_truth, predictions = random_case(seed)
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    found = likeness_precision_by_size(truth, results, PROTOCOL, intersection_over_union)
    for size, expected in precision_by_size(truth, results, PROTOCOL).items():
        assert found[size] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_a_shifted_tiny_box_is_a_find_for_this_measure_alone():
    ground_truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 4, 4]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    truth = read_ground_truth(ground_truth)
    results = read_results([{"image_id": 1, "category_id": 1, "bbox": [13, 14, 4, 4], "score": 0.5}], truth)
    comparison = wasserstein_comparison(truth, results, PROTOCOL)
    overall, verytiny, tiny = comparison.by_size[:3]
    assert overall.iou == overall.iou_lowest == 0
    assert verytiny.wasserstein_lowest == 1, "exp(-5 / 12.8) = 0.68"
    assert verytiny.wasserstein == pytest.approx(np.mean(PROTOCOL.thresholds <= np.exp(-5 / 12.8)))
    assert tiny.wasserstein == -1 and comparison.to_json()["lowest_threshold"] == 0.5
    assert wasserstein_comparison(truth, results, PROTOCOL, constant_px=5).by_size[0].wasserstein_lowest == 0
