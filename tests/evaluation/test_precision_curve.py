from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.evaluation.precision_curve import PrecisionRule, average_precision

RULES = get_args(PrecisionRule)


def ap(hits: list[bool], objects: int, rule: PrecisionRule) -> float:
    return average_precision(np.array(hits, np.bool_), objects, rule)


def test_by_hand():
    # Points (recall, precision) of four objects: (1/4, 1), (1/4, 1/2), (2/4, 2/3).
    hits = [True, False, True]
    assert ap(hits, 4, "plain_area") == pytest.approx(0.25 * 1 + 0.25 * (1 / 2 + 2 / 3) / 2)
    assert ap(hits, 4, "all_points") == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    # Of 101 levels of recall, 0 to 0.25 read 1 and 0.26 to 0.5 read 2/3.
    assert ap(hits, 4, "101_points") == pytest.approx((26 + 25 * 2 / 3) / 101)


def test_the_envelope_looks_ahead_and_the_plain_area_does_not():
    assert ap([False, True, True, True], 3, "all_points") == pytest.approx(3 / 4)
    assert ap([False, True, True, True], 3, "plain_area") == pytest.approx((1 / 4 + 7 / 12 + 17 / 24) / 3)


@pytest.mark.parametrize("rule", RULES)
def test_ends(rule: PrecisionRule):
    assert ap([True] * 7, 7, rule) == pytest.approx(1.0)
    assert ap([], 3, rule) == ap([False, False], 3, rule) == 0.0
    with pytest.raises(ValueError, match="at least one object"):
        ap([], 0, rule)


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 30), st.sampled_from(RULES))
def test_a_false_alarm_never_helps_and_recall_is_the_bound(hits: list[bool], place: int, rule: PrecisionRule):
    objects = sum(hits) + 1
    assert ap([*hits[:place], False, *hits[place:]], objects, rule) <= ap(hits, objects, rule) + 1e-12
    levels = 1 / 101 if rule == "101_points" else 0  # recall 0 is a level of its own
    assert ap(hits, objects, rule) <= sum(hits) / objects + levels + 1e-12
