from __future__ import annotations

import contextlib
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smidgen.evaluation import Protocol, load_protocol, score


def pycocotools_metrics(
    ground_truth: dict[str, Any], predictions: list[dict[str, Any]], protocol: Protocol
) -> dict[str, float]:
    """The oracle, read from its arrays (its summary is for COCO's own limits only)."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(ground_truth))
        truth.createIndex()
        oracle = COCOeval(truth, truth.loadRes([dict(result) for result in predictions]), "bbox")
        oracle.params.iouThrs = protocol.thresholds
        oracle.params.areaRng = [list(bounds) for bounds in protocol.areas.values()]
        oracle.params.areaRngLbl = list(protocol.areas)
        oracle.params.maxDets = list(protocol.detection_limits)
        oracle.evaluate()
        oracle.accumulate()
    figures = {}
    for name, figure in protocol.figures.items():
        if figure.measure not in ("average_precision", "average_recall"):
            continue
        values = oracle.eval["precision" if figure.measure == "average_precision" else "recall"]
        values = values[..., list(protocol.areas).index(protocol.area_of(figure)), :]
        values = values[..., protocol.detection_limits.index(protocol.limit_of(figure))]
        values = values if figure.iou is None else values[protocol.threshold_index(figure.iou)]
        figures[name] = float(values[values > -1].mean()) if (values > -1).any() else -1.0
    return figures


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["coco", "aitod"]), st.integers(1, 8), st.integers(1, 4))
def test_equals_pycocotools(seed: int, protocol: str, images: int, classes: int):
    ground_truth, predictions = random_case(seed, images=images, classes=classes)
    if not predictions:
        return
    expected = pycocotools_metrics(ground_truth, predictions, load_protocol(protocol))
    metrics = score(ground_truth, predictions, protocol).metrics
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1.0, 4.0]),  # 4: large objects too
    silent=st.booleans(),
    region=st.booleans(),
)
def test_all_twelve_figures_equal_pycocotools_own_summary(seed: int, scale: float, silent: bool, region: bool):
    """silent: a class without detections. region: an ignored region, written as pycocotools must be told."""
    ground_truth, predictions = random_case(seed, images=5, classes=3)
    ground_truth["images"].append({"id": 999, "width": 100, "height": 100})  # nothing in it
    if region:
        ground_truth["annotations"] += [
            {
                "id": 900 + index,
                "image_id": 3,
                "category_id": index,
                "bbox": [5.0, 5, 50, 50],
                "area": 2500,
                "iscrowd": 1,
            }
            for index in (1, 5, 9)
        ]
    predictions = [entry for entry in predictions if not (silent and entry["category_id"] == 1)]
    for entry in (*ground_truth["annotations"], *predictions):
        entry["bbox"] = [scale * value for value in entry["bbox"]]
    for entry in ground_truth["annotations"]:
        entry["area"] *= scale**2
    if not predictions:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(ground_truth))
        truth.createIndex()
        oracle = COCOeval(truth, truth.loadRes([dict(result) for result in predictions]), "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    metrics = score(ground_truth, predictions, "coco").metrics
    assert list(metrics.values()) == pytest.approx(oracle.stats.tolist(), abs=1e-9)


def test_the_limit_of_the_protocol_holds_beyond_100_detections():
    rng = np.random.default_rng(0)
    ground_truth, _ = random_case(1, images=1, classes=1)
    ground_truth["annotations"] = [
        {"id": index + 1, "image_id": 3, "category_id": 1, "bbox": [8.0 * index, 0, 6, 6], "area": 36.0, "iscrowd": 0}
        for index in range(150)
    ]
    predictions = [
        {"image_id": 3, "category_id": 1, "bbox": entry["bbox"], "score": float(rng.random())}
        for entry in ground_truth["annotations"]
    ]
    assert score(ground_truth, predictions, "aitod").metrics["AP"] == 1.0
    assert score(ground_truth, predictions, "aitod").metrics["AR100"] == pytest.approx(100 / 150)
    assert score(ground_truth, predictions, "coco").metrics["AP"] < 0.7


def test_per_class_values_average_to_the_whole():
    ground_truth, predictions = random_case(5, images=20)
    evaluation = score(ground_truth, predictions, "aitod")
    for name in ("AP", "AP50", "APt", "AR1500", "oLRP"):
        values = [row[name] for row in evaluation.per_class.values() if row[name] > -1]
        assert evaluation.metrics[name] == pytest.approx(np.mean(values), abs=1e-12)
    assert evaluation.per_class["class 9"]["AP"] == -1  # it has no ground truth


def test_no_predictions_are_zero_and_no_objects_are_absent():
    ground_truth, predictions = random_case(5)
    assert score(ground_truth, [], "coco").metrics["AP"] == 0.0
    assert score(ground_truth, [], "aitod").metrics["oLRP"] == 1.0
    empty = {**ground_truth, "annotations": []}
    assert set(score(empty, predictions, "aitod").metrics.values()) == {-1.0}
    nothing = {"images": [], "annotations": [], "categories": []}
    assert set(score(nothing, [], "coco").metrics.values()) == {-1.0}


def test_ids_may_be_names_and_annotations_may_lack_ids():
    ground_truth, predictions = random_case(7)
    name = {entry["id"]: f"image {entry['id']:05d}" for entry in ground_truth["images"]}
    renamed = {
        **ground_truth,
        "images": [{"id": name[entry["id"]]} for entry in ground_truth["images"]],
        "annotations": [
            {key: value for key, value in {**entry, "image_id": name[entry["image_id"]]}.items() if key != "id"}
            for entry in ground_truth["annotations"]
        ],
    }
    results = [{**entry, "image_id": name[entry["image_id"]]} for entry in predictions]
    assert score(renamed, results, "aitod").metrics == score(ground_truth, predictions, "aitod").metrics


def test_detections_that_are_not_finite_are_dropped_and_counted():
    ground_truth, predictions = random_case(5)
    broken = [{**predictions[0], "score": math.nan}, {**predictions[0], "bbox": [0, math.inf, 1, 1]}]
    evaluation = score(ground_truth, [*broken, *predictions])
    assert evaluation.settings["non_finite"] == 2
    assert evaluation.metrics == score(ground_truth, predictions).metrics


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": 999}, "image_id of the predictions not in the ground truth .999.*same split"),
        ({"category_id": 77}, "category_id of the predictions not in the ground truth .77"),
        ({"bbox": [1, 2, 3]}, r"bbox as \[x, y, width, height\]"),
    ],
)
def test_predictions_of_other_data_are_refused(change: dict[str, Any], said: str):
    ground_truth, predictions = random_case(5)
    with pytest.raises(ValueError, match=said):
        score(ground_truth, [{**predictions[0], **change}])


def test_missing_keys_are_named():
    ground_truth, predictions = random_case(5)
    with pytest.raises(ValueError, match="every prediction to have 'score'"):
        score(ground_truth, [{key: value for key, value in predictions[0].items() if key != "score"}])
    with pytest.raises(ValueError, match="categories"):
        score({"images": [], "annotations": []}, [])


def test_json_has_the_keys_others_rely_on():
    ground_truth, predictions = random_case(5)
    document = json.loads(json.dumps(score(ground_truth, predictions, "aitod").to_json()))
    assert set(document) == {"protocol", "metrics", "per_class", "settings"}
    assert document["protocol"] == "aitod@1"
    assert document["settings"]["areas"]["verytiny"] == [0, 64]
    assert document["settings"]["detection_limits"] == [1, 100, 1500]


def test_table_says_protocol_bins_limits_and_classes():
    ground_truth, predictions = random_case(5)
    text = score(ground_truth, predictions, "aitod").table()
    for part in ("aitod@1", "1, 100, 1500", "0 to 8", "verytiny", "class 1", "APvt", "oLRP_FN"):
        assert part in text
