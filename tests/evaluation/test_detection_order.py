from __future__ import annotations

import numpy as np
from detection_cases import random_case

from smidgen.evaluation.annotations import Results, read_ground_truth, read_results
from smidgen.evaluation.detection_order import by_class, rank_within, score_rank, within_limit


def case() -> Results:
    ground_truth, predictions = random_case(3)
    return read_results(predictions, read_ground_truth(ground_truth))


def test_a_limit_per_image_is_shared_by_the_classes():
    results = case()
    of_image, of_class = rank_within(results, "image"), rank_within(results, "image_and_class")
    for image in np.unique(results.image):
        rows = results.image == image
        assert sorted(of_image[rows]) == list(range(rows.sum()))
        assert np.all(np.diff(results.scores[rows][np.argsort(of_image[rows])]) <= 0)
    assert np.all(of_class <= of_image) and (of_class == 0).sum() > (of_image == 0).sum()


def test_a_limit_keeps_the_best_of_each_group():
    results = case()
    kept = within_limit(results, 2, "image_and_class")
    groups = list(zip(kept.image.tolist(), kept.category.tolist(), strict=True))
    assert max(groups.count(group) for group in groups) == 2
    assert len(within_limit(results, 10_000, "image").scores) == len(results.scores)
    for image, category in set(groups):
        same = (results.image == image) & (results.category == category)
        of_kept = (kept.image == image) & (kept.category == category)
        assert sorted(kept.scores[of_kept]) == sorted(results.scores[same])[-2:]


def test_equal_scores_stand_as_in_the_file():
    results = case()
    assert np.unique(results.scores).size < len(results.scores)
    order = np.argsort(score_rank(results))
    steps = np.diff(results.scores[order])
    assert np.all(steps <= 0) and np.all(np.diff(order)[steps == 0] > 0)
    rows = np.flatnonzero(results.image < 4)
    listed = rows[by_class(results, rows)]
    keys = [(results.category[row], -results.scores[row], results.image[row], row) for row in listed]
    assert keys == sorted(keys) and sorted(listed) == rows.tolist()


def test_nothing_has_no_order():
    results = case().kept(np.zeros(len(case().scores), np.bool_))
    assert (
        len(rank_within(results, "image")) == len(score_rank(results)) == len(by_class(results, np.zeros(0, int))) == 0
    )
