from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import bootstrap_intervals, load_protocol, score
from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.bootstrap import resampled_figures

PRECISIONS = ("AP", "AP50", "AP75", "APvt", "APt", "APs", "APm")


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_image_once_gives_the_engines_figures(seed: int):
    ground_truth, predictions = random_case(seed)
    truth = read_ground_truth(ground_truth)
    weights = np.ones((2, len(truth.image_ids)), np.int64)
    results = read_results(predictions, truth)
    values = resampled_figures(truth, results, load_protocol("aitod"), metrics=PRECISIONS, weights=weights)
    expected = score(ground_truth, predictions, "aitod").metrics
    for name in PRECISIONS:
        assert np.nan_to_num(values[name], nan=-1) == pytest.approx([expected[name]] * 2, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["coco", "visdrone", "widerperson"]), st.booleans())
def test_a_weight_is_a_repeated_image(seed: int, name: str, once: bool):
    ground_truth, predictions = random_case(seed)
    rng = np.random.default_rng(seed)
    predictions = [{**entry, "score": float(rng.random())} for entry in predictions]  # no ties within an image
    region = {"image_id": ground_truth["images"][0]["id"], "bbox": [0.0, 0.0, 50.0, 50.0], "iscrowd": 1}
    ground_truth["annotations"].append(region)
    protocol = replace(load_protocol(name), equal_scores="in_order", least_height_px=None)
    metrics = [key for key, figure in protocol.figures.items() if figure.measure == "average_precision"]
    truth = read_ground_truth(ground_truth)
    weights = np.ones((1, len(truth.image_ids)), np.int64) if once else rng.integers(0, 3, (1, len(truth.image_ids)))
    values = resampled_figures(truth, read_results(predictions, truth), protocol, metrics=metrics, weights=weights)
    repeated, results = _repeat(ground_truth, predictions, dict(zip(truth.image_ids, weights[0], strict=True)))
    expected = score(repeated, results, protocol).metrics
    for metric in metrics:
        assert np.nan_to_num(values[metric], nan=-1)[0] == pytest.approx(expected[metric], abs=1e-10), metric


def test_interval_holds_the_value_and_depends_on_the_seed_alone():
    ground_truth, predictions = random_case(5, images=30)
    low, high = bootstrap_intervals(ground_truth, predictions, samples=100)["AP"]
    assert low < score(ground_truth, predictions).metrics["AP"] < high
    assert bootstrap_intervals(ground_truth, predictions, samples=100)["AP"] == (low, high)
    assert bootstrap_intervals(ground_truth, predictions, samples=100, seed=1)["AP"] != (low, high)


def test_without_objects_or_predictions():
    ground_truth, predictions = random_case(5)
    assert bootstrap_intervals(ground_truth, [], metrics=["AP"]) == {"AP": (0.0, 0.0)}
    assert bootstrap_intervals({**ground_truth, "annotations": []}, predictions)["AP"] == (-1.0, -1.0)
    nothing = {"images": [], "annotations": [], "categories": []}
    assert bootstrap_intervals(nothing, [])["AP"] == (-1.0, -1.0)


def test_other_figures_are_refused():
    ground_truth, predictions = random_case(5)
    with pytest.raises(ValueError, match="expected average precisions of coco@1"):
        bootstrap_intervals(ground_truth, predictions, metrics=["AR100"])


def _repeat(ground_truth: dict, predictions: list[dict], weights: dict) -> tuple[dict, list[dict]]:
    images, annotations, results = [], [], []
    for image, weight in weights.items():
        for copy in range(weight):
            name = image * 10 + copy
            images.append({"id": name})
            annotations += [{**a, "image_id": name} for a in ground_truth["annotations"] if a["image_id"] == image]
            results += [{**p, "image_id": name} for p in predictions if p["image_id"] == image]
    annotations = [{**entry, "id": index + 1} for index, entry in enumerate(annotations)]
    return {**ground_truth, "images": images, "annotations": annotations}, results
