from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol, score
from smidgen.evaluation.annotations import read_ground_truth
from smidgen.evaluation.ignore_rules import covered

WIDTH, HEIGHT = 40, 30


def document(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "width": WIDTH, "height": HEIGHT}, {"id": 2, "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"image_id": 1, **entry} for entry in annotations],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
    }


def found(category: int, box: list[float], value: float = 0.9) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": box, "score": value}


def as_the_toolkit_counts(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Regions drawn into an image, pixels counted one by one; coordinates from 1."""
    drawn = np.zeros((HEIGHT + 1, WIDTH + 1), bool)
    for x, y, width, height in np.maximum(regions, 1).astype(int):
        drawn[y : min(y + height, HEIGHT) + 1, x : min(x + width, WIDTH) + 1] = True
    shares = []
    for x, y, width, height in np.maximum(np.round(boxes), 1).astype(int):
        shares.append(drawn[y + 1 : y + height + 1, x + 1 : x + width + 1].sum() / (width * height))
    return np.array(shares) >= 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_coverage_equals_a_drawn_image(seed: int, count: int):
    rng = np.random.default_rng(seed)
    regions = np.column_stack([rng.integers(0, 35, count), rng.integers(0, 25, count), rng.integers(1, 20, (count, 2))])
    boxes = np.column_stack([rng.uniform(-3, 42, 50), rng.uniform(-3, 32, 50), rng.uniform(0, 15, (50, 2))])
    truth = read_ground_truth(document(*({"iscrowd": 1, "bbox": row.tolist()} for row in regions)))
    image = rng.integers(0, 2, 50)
    inside = covered(truth, image, boxes)
    assert not inside[image == 1].any()  # the regions are in the first image
    assert np.array_equal(inside[image == 0], as_the_toolkit_counts(boxes[image == 0], regions))


@pytest.mark.parametrize(
    "region",
    [
        [{"category_id": 0, "iscrowd": 1, "bbox": [0, 0, 20, 20]}],
        [{"iscrowd": 1, "bbox": [0, 0, 20, 20]}],
        [{"category_id": 9, "ignore": 1, "bbox": [0, 0, 20, 20]}],
        [{"category_id": category, "iscrowd": 1, "bbox": [0, 0, 20, 20]} for category in (1, 2)],
    ],
)
def test_a_region_is_about_every_class_however_it_is_written(region: list[dict[str, Any]]):
    truth = document({"category_id": 1, "bbox": [25, 5, 8, 8]}, {"category_id": 2, "bbox": [2, 2, 8, 8]}, *region)
    results = [found(1, [25, 5, 8, 8], 0.5), found(1, [3, 3, 6, 6]), found(2, [4, 4, 3, 3])]
    columns = read_ground_truth(truth)
    assert columns.num_ignored == 1 and columns.region.sum() == 2
    removed = score(truth, results, replace(load_protocol("coco"), ignored_regions="remove"))
    assert removed.metrics["AP"] == pytest.approx(1)  # the bus is gone, as are both detections in the region
    assert removed.settings["annotations_removed"] == 1 and removed.settings["detections_removed"] == 2
    as_crowd = score(truth, results, "coco")
    assert as_crowd.per_class["car"]["AP"] == pytest.approx(1) and as_crowd.per_class["bus"]["AP"] == 0.0
    assert as_crowd.settings["objects"] == 2 and as_crowd.settings["ignored_regions"] == 1


def test_a_crowd_of_one_class_is_no_region():
    crowd = {"category_id": 1, "iscrowd": 1, "bbox": [0, 0, 20, 20]}
    truth = document({"category_id": 2, "bbox": [2, 2, 8, 8]}, crowd)
    evaluation = score(truth, [found(2, [2, 2, 8, 8]), found(1, [3, 3, 5, 5])], "visdrone")
    assert evaluation.per_class["bus"]["AP"] == pytest.approx(100) and evaluation.settings["annotations_removed"] == 0
    # The toolkit's recall counts ignored objects, so a class with nothing else has one that is never found.
    assert evaluation.per_class["car"]["AP"] == 0.0


def test_crowds_may_be_objects_and_scores_may_have_a_floor():
    truth = document({"category_id": 1, "iscrowd": 1, "bbox": [2, 2, 8, 8]})
    results = [found(1, [2, 2, 8, 8], 0.3)]
    assert score(truth, results, "coco").metrics["AP"] == -1
    assert score(truth, results, "soda_d").metrics["AP"] == pytest.approx(1)
    floor = replace(load_protocol("soda_d"), score_floor=0.4)
    evaluation = score(truth, results, floor, settings={"score_floor": 0.0})
    assert evaluation.metrics["AP"] == 0.0 and evaluation.settings["score_floor"] == 0.4
    assert "scores from 0.4" in evaluation.table()
