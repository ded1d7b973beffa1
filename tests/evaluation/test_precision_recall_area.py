from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.evaluation.precision_recall_area import precision_recall_area


def area(hits: list[bool], objects: int, counted: list[bool] | None = None) -> float:
    marks = np.ones(len(hits), np.bool_) if counted is None else np.array(counted, np.bool_)
    return precision_recall_area(np.array(hits, np.bool_), marks, objects=objects)


def test_by_hand():
    # Points (recall, precision): (1/4, 1), (1/4, 1/2), (2/4, 2/3).
    assert area([True, False, True], 4) == pytest.approx(0.25 * 1 + 0.25 * (1 / 2 + 2 / 3) / 2)


def test_ends():
    assert area([True] * 7, 7) == pytest.approx(1.0)
    assert area([], 3) == area([False, False], 3) == 0.0
    with pytest.raises(ValueError, match="at least one object"):
        area([], 0)


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 30))
def test_ignored_detections_do_not_matter_and_false_ones_never_help(hits: list[bool], place: int):
    objects = sum(hits) + 1
    more = [*hits[:place], False, *hits[place:]]
    counted = [position != min(place, len(hits)) for position in range(len(more))]
    assert area(more, objects, counted) == pytest.approx(area(hits, objects))
    assert area(more, objects) <= area(hits, objects) + 1e-12
    assert area(hits, objects) <= sum(hits) / objects + 1e-12
