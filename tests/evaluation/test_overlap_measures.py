from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask

from smidgen.evaluation.overlap import aligned_iou, intersection_over_union, normalized_wasserstein, share_inside

A_BOX = np.array([[10.0, 10.0, 4.0, 4.0]])


@given(st.integers(0, 2**32 - 1))
def test_iou_and_share_inside_are_pycocotools_to_the_last_bit(seed: int):
    rng = np.random.default_rng(seed)
    rows, columns = rng.random((6, 4)) * 20, rng.random((5, 4)) * 20
    rows[0, 2:] = 0
    assert np.array_equal(intersection_over_union(rows, columns), mask.iou(rows, columns, [0] * 5))
    assert np.array_equal(share_inside(rows, columns), mask.iou(rows, columns, [1] * 5))
    assert aligned_iou(rows[:5], columns) == pytest.approx(np.diag(intersection_over_union(rows, columns)))


def test_wasserstein_of_a_shift_does_not_depend_on_size():
    small, large = A_BOX, A_BOX * [1, 1, 20, 20]
    shift = np.array([[3.0, 4.0, 0.0, 0.0]])
    measure = normalized_wasserstein()
    assert measure(small, small + shift) == pytest.approx(np.exp(-5 / 12.8))
    assert measure(large, large + shift) == pytest.approx(np.exp(-5 / 12.8))
    assert intersection_over_union(small, small + shift) == 0 < intersection_over_union(large, large + shift)


def test_wasserstein_of_sides_is_that_of_half_sides():
    grown = np.array([[7.0, 6.0, 10.0, 12.0]])  # the same center, 6 px wider and 8 px higher
    assert normalized_wasserstein(5.0)(A_BOX, grown) == pytest.approx(np.exp(-1.0))


@given(st.integers(0, 2**32 - 1))
def test_wasserstein_is_a_symmetric_likeness(seed: int):
    rng = np.random.default_rng(seed)
    boxes = rng.random((5, 4)) * 30
    likeness = normalized_wasserstein()(boxes, boxes)
    assert np.diag(likeness) == pytest.approx(1) and likeness == pytest.approx(likeness.T)
    assert (likeness > 0).all() and (likeness <= 1).all()


def test_a_constant_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="positive constant C"):
        normalized_wasserstein(0.0)
