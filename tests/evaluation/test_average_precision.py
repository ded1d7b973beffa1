from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol, score
from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.average_precision import average_precision, detection_ranks

COCO = load_protocol("coco")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_own_curves_equal_the_engines_where_they_judge_alike(seed: int):
    ground_truth, predictions = random_case(seed)
    rng = np.random.default_rng(seed)
    untied = [{**entry, "score": value} for entry, value in zip(predictions, rng.random(len(predictions)), strict=True)]
    ours = score(ground_truth, untied, replace(COCO, equal_scores="as_numpy_sorts")).metrics  # leaves the engine's way
    for name, value in score(ground_truth, untied, COCO).metrics.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name


def test_area_under_the_envelope_by_hand():
    # Right, wrong, ignored, right of three objects: precision 1 up to 1/3, then 2/3 up to 2/3.
    hit, counted = np.array([[True, False, False, True]]), np.array([[True, True, False, True]])
    assert average_precision(hit, counted, 3, "all_points") == pytest.approx([1 / 3 + 2 / 9])
    # Of 101 levels of recall, 0 to 0.33 read 1 and 0.34 to 0.66 read 2/3.
    assert average_precision(hit, counted, 3, "101_points") == pytest.approx([(34 + 33 * 2 / 3) / 101])


def test_a_limit_per_image_is_shared_by_the_classes():
    ground_truth, predictions = random_case(3)
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    of_image = detection_ranks(results, replace(COCO, limit_per="image"))
    of_class = detection_ranks(results, COCO)
    for image in np.unique(results.image):
        rows = results.image == image
        assert sorted(of_image[rows]) == list(range(rows.sum()))
        assert np.all(np.diff(results.scores[rows][np.argsort(of_image[rows])]) <= 0)
    assert np.all(of_class <= of_image) and (of_class == 0).sum() > (of_image == 0).sum()


def test_a_class_mean_over_images_weighs_what_many_images_hold():
    ground_truth, predictions = random_case(5, images=20)
    over_images = score(ground_truth, predictions, replace(COCO, class_mean="images"))
    images = over_images.settings["images_by_class"]
    rows = {name: row["AP"] for name, row in over_images.per_class.items() if row["AP"] > -1}
    expected = np.average(list(rows.values()), weights=[images[name] for name in rows])
    assert over_images.metrics["AP"] == pytest.approx(expected)
    assert over_images.metrics["AP"] != pytest.approx(np.mean(list(rows.values())))
    assert images["class 1"] == len({e["image_id"] for e in ground_truth["annotations"] if e["category_id"] == 1})


def test_per_cent_leaves_what_is_absent():
    ground_truth, predictions = random_case(5)
    fractions = score(ground_truth, predictions, COCO).metrics
    for name, value in score(ground_truth, predictions, replace(COCO, unit="per_cent")).metrics.items():
        assert value == (-1.0 if fractions[name] == -1 else pytest.approx(100 * fractions[name]))


def test_visdrone_has_the_plain_mean_beside_its_own():
    ground_truth, predictions = random_case(5, images=20)
    evaluation = score(ground_truth, predictions, "visdrone")
    values = [row["AP"] for row in evaluation.per_class.values() if row["AP"] > -1]
    assert evaluation.metrics["AP_plain"] == pytest.approx(np.mean(values))
    assert not any("plain" in name for row in evaluation.per_class.values() for name in row)
