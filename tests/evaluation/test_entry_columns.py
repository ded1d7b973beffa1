from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.evaluation.entry_columns import boxes, column, identifiers, indices, numbers

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "bbox"]), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(ANYTHING, max_size=4))
def test_whatever_a_file_holds_is_read_or_refused_in_words(entries: list[Any]):
    for read in (
        lambda: numbers(entries, "a", "thing"),
        lambda: boxes(entries, "thing"),
        lambda: identifiers(entries, "a", "thing"),
        lambda: indices(entries, "a", [1, "x"], "thing"),
    ):
        try:
            assert len(read()) == len(entries)
        except ValueError as error:
            assert "thing" in str(error)


def test_numbers_may_be_missing_in_places():
    assert np.isnan(numbers([{"a": None}, {"a": 2}], "a", "thing")).tolist() == [True, False]
    assert boxes([], "thing").shape == (0, 4)


def test_long_entries_are_cut_in_the_message():
    with pytest.raises(ValueError, match="to have 'a'") as error:
        column([{"b": "x" * 5000}], "a", "thing")
    assert len(str(error.value)) < 300
