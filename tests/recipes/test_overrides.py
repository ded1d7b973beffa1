from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.recipes.overrides import changed, parse_overrides


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    sides: tuple[int, ...] = (1, 2)
    kind: Literal["step", "cosine"] = "step"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"expected rate >= 0, got {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "x"
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    anything: Any = field(default_factory=Inner)
    options: Mapping[str, Any] = field(default_factory=dict)


def with_set(*overrides: str) -> Outer:
    return changed(Outer(), parse_overrides(overrides))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("inner.rate=1e-4", Outer(inner=Inner(rate=1e-4))),
        ("inner.sides=[3, 4, 5]", Outer(inner=Inner(sides=(3, 4, 5)))),
        ("inner.kind=cosine", Outer(inner=Inner(kind="cosine"))),
        ("inner.limit=7", Outer(inner=Inner(limit=7))),
        ("inner.limit=null", Outer()),
        ("inner={rate: 2, limit: 3}", Outer(inner=Inner(rate=2.0, limit=3))),
        ("maybe.rate=2", Outer(maybe=Inner(rate=2.0))),
        ("options.a=[1, b]", Outer(options={"a": [1, "b"]})),
        ("name=a=b", Outer(name="a=b")),
    ],
)
def test_values_are_yaml_of_the_fields_type(override: str, expected: Outer) -> None:
    assert with_set(override) == expected


def test_several_changes_join_and_the_later_wins() -> None:
    assert with_set("inner.rate=1", "inner.limit=2", "inner.rate=3") == Outer(inner=Inner(rate=3.0, limit=2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "inner.raet=1",
            r"unknown field 'inner.raet'; did you mean 'inner.rate'\? fields of 'inner': kind, limit, rate",
        ),
        ("iner.rate=1", r"unknown field 'iner'; did you mean 'inner'\?"),
        ("zzz=1", "unknown field 'zzz'; fields of an experiment: anything, inner, maybe, name"),
        ("maybe.raet=1", "unknown field 'maybe.raet'"),
        ("inner.rate=fast", "inner.rate: expected float, got 'fast'"),
        ("inner.kind=stepp", "inner.kind: expected .*'step'"),
        ("inner.rate=-1", "inner: expected rate >= 0, got -1.0"),
        ("inner.rate", "expected path.to.field=value"),
        ("=3", "expected path.to.field=value"),
        ("inner.rate=[1", "expected a YAML value"),
        ("inner=3", "inner: expected Inner"),
        ("anything=3", r"anything: expected fields as in anything.rate=..., got 3"),
        ("rate=3", r"unknown field 'rate'; did you mean 'inner.rate'\?"),
        ("name.first=3", "name: expected str"),
    ],
)
def test_mistakes_are_named_with_the_remedy(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_set(override)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False), st.lists(st.integers(), max_size=4))
def test_any_value_survives_the_way_through_text(rate: float, sides: list[int]) -> None:
    assert with_set(f"inner.rate={rate!r}", f"inner.sides={sides}") == Outer(inner=Inner(rate=rate, sides=tuple(sides)))
