from __future__ import annotations

import numpy as np
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.engine import Engine
from smidgen.evaluation.greedy_matching import assign_greedily, match_contest, open_contest
from smidgen.evaluation.overlap import intersection_over_union
from smidgen.evaluation.overlap_pairs import OverlapPairs

THRESHOLDS = np.array([0.25, 0.5, 0.75, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(0.0, 1e10), (0.0, 64.0), (64.0, 300.0)]), st.sampled_from([2, 100]))
def test_with_iou_it_is_the_engines_matching(seed: int, area: tuple[float, float], limit: int):
    ground_truth, predictions = random_case(seed)
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    expected = Engine(truth, results).match(thresholds=THRESHOLDS, area=area, limit=limit)
    contest = open_contest(truth, results, intersection_over_union, lowest_threshold=0.25, limit=limit)
    found = match_contest(contest, truth, results, thresholds=THRESHOLDS, area=area)
    assert found.detection.tolist() == expected.detection.tolist()
    assert found.truth.tolist() == expected.truth.tolist()
    assert found.counted.tolist() == expected.counted.tolist()
    assert found.objects.tolist() == expected.objects.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_all_at_once_is_one_after_another(seed: int):
    rng = np.random.default_rng(seed)
    overlap = rng.integers(0, 5, (12, 7)) / 4  # few values: many ties and long chains of refusals
    rank = rng.permutation(12)
    shared = rng.random(7) < 0.2
    detection, truth = np.nonzero(overlap)
    pairs = OverlapPairs(detection, truth, overlap[detection, truth])
    pairs = pairs[np.lexsort((pairs.truth, -pairs.overlap, pairs.detection))]
    assert assign_greedily(pairs, rank, shared).tolist() == _one_after_another(overlap, rank, shared)


def test_nothing_to_match():
    truth = read_ground_truth({"images": [], "annotations": [], "categories": []})
    results = read_results([], truth)
    contest = open_contest(truth, results, intersection_over_union, lowest_threshold=0.25, limit=9)
    found = match_contest(contest, truth, results, thresholds=THRESHOLDS, area=(0, 1e10))
    assert found.truth.shape == (4, 0) and found.objects.shape == (0, 0)
    assert not found.hit.any()


def _one_after_another(overlap: np.ndarray, rank: np.ndarray, shared: np.ndarray) -> list[int]:
    given = [-1] * len(overlap)
    taken: set[int] = set()
    for detection in np.argsort(rank):
        wishes = [place for place in np.argsort(-overlap[detection], kind="stable") if overlap[detection, place] > 0]
        free = [int(place) for place in wishes if place not in taken]
        if free:
            given[detection] = free[0]
            taken |= set() if shared[free[0]] else {free[0]}
    return given
