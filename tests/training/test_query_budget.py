"""The warning counts images and names the fullest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smidgen.training.query_budget import query_budget_warning


def test_no_limit_or_no_excess_is_not_warned_of() -> None:
    assert query_budget_warning([], 10) is None
    assert query_budget_warning([1, 10], 10) is None
    assert query_budget_warning([1000], None) is None


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 50))
def test_warning_counts_the_images(counts: list[int], num_queries: int) -> None:
    warning = query_budget_warning(counts, num_queries)
    over = len([count for count in counts if count > num_queries])
    assert (warning is None) == (over == 0)
    if warning is not None:
        assert f"{over} of {len(counts)} images" in warning
        assert f"the fullest has {max(counts)}" in warning
