from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.evaluation.miss_rate import REFERENCE_POINTS, log_average_miss_rate, miss_rate_curve


def rate(hits: list[bool], *, objects: int, images: int, counted: list[bool] | None = None) -> float:
    marks = np.ones(len(hits), np.bool_) if counted is None else np.array(counted, np.bool_)
    return log_average_miss_rate(miss_rate_curve(np.array(hits, np.bool_), marks, objects=objects, images=images))


def test_by_hand():
    # 10 images, 4 objects: hit, hit, false (0.1 per image), hit, false (0.2).
    curve = miss_rate_curve(np.array([1, 1, 0, 1, 0], np.bool_), np.ones(5, np.bool_), objects=4, images=10)
    assert curve.miss_rate.tolist() == [0.75, 0.5, 0.5, 0.25, 0.25]
    assert curve.false_positives_per_image.tolist() == [0.0, 0.0, 0.1, 0.1, 0.2]
    # 0.01, 0.018, 0.032 and 0.056 read 0.5; from 0.1 on it is 0.25.
    expected = math.exp((4 * math.log(0.5) + 5 * math.log(0.25)) / 9)
    assert log_average_miss_rate(curve) == pytest.approx(expected, rel=1e-12)


def test_points_before_the_first_detection_read_one():
    # The best detection is wrong: 1 per image at once, beyond every point but the last.
    assert rate([False, True], objects=2, images=1) == pytest.approx(math.exp(math.log(0.5) / 9))


def test_reference_points_are_those_of_the_paper():
    rounded = [0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0]
    np.testing.assert_allclose(REFERENCE_POINTS, rounded, atol=5e-5)


@given(st.integers(1, 30), st.integers(1, 30))
def test_a_perfect_detector_misses_nothing_and_a_blind_one_everything(objects: int, images: int):
    assert rate([True] * objects, objects=objects, images=images) < 1e-9
    assert rate([], objects=objects, images=images) == 1.0
    assert rate([False] * 5, objects=objects, images=images) == 1.0


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 40), st.integers(1, 20))
def test_false_positives_never_help_and_ignored_ones_never_matter(hits: list[bool], place: int, images: int):
    objects = max(1, sum(hits)) + 1
    before = rate(hits, objects=objects, images=images)
    more = [*hits[:place], False, *hits[place:]]
    assert rate(more, objects=objects, images=images) >= before - 1e-12
    ignored = [position != min(place, len(hits)) for position in range(len(more))]
    assert rate(more, objects=objects, images=images, counted=ignored) == pytest.approx(before, rel=1e-12)


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 20))
def test_it_lies_between_the_lowest_miss_rate_and_one(hits: list[bool], images: int):
    objects = sum(hits) + 2
    lowest = 1 - sum(hits) / objects
    assert lowest - 1e-12 <= rate(hits, objects=objects, images=images) <= 1.0 + 1e-12


def test_nothing_to_find_is_refused():
    with pytest.raises(ValueError, match="at least one object"):
        rate([True], objects=0, images=3)
