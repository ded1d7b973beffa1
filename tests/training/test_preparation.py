"""What is said before training about images that hold more objects than there are queries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from smidgen.training.preparation import _warn_of_query_budget


def _said(counts: list[int], **config: Any) -> list[str]:
    said: list[str] = []
    session = SimpleNamespace(detector=SimpleNamespace(config=SimpleNamespace(**config)), say=said.append)
    dataset = SimpleNamespace(records=[SimpleNamespace(labels=[0] * count) for count in counts])
    _warn_of_query_budget(cast(Any, session), cast(Any, dataset))
    return said


@pytest.mark.parametrize(
    ("config", "field"), [({"num_queries": 30}, "model.num_queries"), ({"budgets": (10, 30)}, "model.budgets")]
)
def test_the_warning_names_the_field_that_limits_the_queries(config: dict[str, Any], field: str) -> None:
    assert _said([5, 30], **config) == []
    (warning,) = _said([5, 31], **config)
    assert "1 of 2 images" in warning and "30 queries" in warning and f"--set {field}," in warning


def test_a_system_without_such_a_limit_is_not_warned_of() -> None:
    assert _said([1000]) == []
