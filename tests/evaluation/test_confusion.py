from __future__ import annotations

import hotcoco
import numpy as np
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.confusion import ConfusionMatrix, confusion_matrix

A_BOX = [10, 10, 20, 20]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.6]))
def test_counts_are_hotcocos(seed: int, least: float):
    ground_truth, predictions = random_case(seed)
    rng = np.random.default_rng(seed)
    for annotation in ground_truth[
        "annotations"
    ]:  # no crowds, no ties: hotcoco calls what lies in a crowd a false alarm
        annotation |= {"iscrowd": 0, "bbox": (np.array(annotation["bbox"]) + rng.random(4) / 8).tolist()}
    ids = [category["id"] for category in ground_truth["categories"]]
    for entry in predictions:
        entry |= {"score": float(rng.random()), "category_id": int(rng.choice(ids))}
    evaluator = hotcoco.COCOeval(hotcoco.COCO(ground_truth), hotcoco.COCO(ground_truth).load_res(predictions), "bbox")
    expected = evaluator.confusion_matrix(iou_thr=0.5, max_det=1000, min_score=least)["matrix"]
    truth = read_ground_truth(ground_truth)
    found = confusion_matrix(truth, read_results(predictions, truth), score_threshold=least)
    assert found.counts.tolist() == expected.tolist()


def confusion(objects: list[tuple[int, list, int]], detections: list[tuple[int, list, float]]) -> ConfusionMatrix:
    """Classes a, b; objects (class, box, crowd), detections (class, box, score)."""
    ground_truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": c, "bbox": box, "iscrowd": crowd} for c, box, crowd in objects],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    truth = read_ground_truth(ground_truth)
    predictions = [{"image_id": 1, "category_id": c, "bbox": box, "score": score} for c, box, score in detections]
    return confusion_matrix(truth, read_results(predictions, truth), score_threshold=0.5)


def test_what_is_taken_for_what():
    found = confusion([(1, A_BOX, 0), (2, [60, 60, 9, 9], 0)], [(2, A_BOX, 0.9), (1, A_BOX, 0.8), (2, A_BOX, 0.4)])
    assert found.counts.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert found.worst == (("a", "b", 1),) and found.to_json()["classes"] == ["a", "b", "background"]


def test_of_equal_objects_the_one_of_the_own_class_is_chosen():
    found = confusion([(1, A_BOX, 0), (2, A_BOX, 0)], [(2, A_BOX, 0.9), (1, A_BOX, 0.8)])
    assert found.counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_what_lies_in_a_crowd_of_its_class_is_no_false_alarm():
    found = confusion([(1, [0, 0, 90, 90], 1)], [(1, A_BOX, 0.9), (1, A_BOX, 0.8), (2, A_BOX, 0.7)])
    assert found.counts.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
