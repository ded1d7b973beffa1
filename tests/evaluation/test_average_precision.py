from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol, score

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
