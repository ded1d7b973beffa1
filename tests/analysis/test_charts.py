from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smidgen.analysis import Series, line_chart
from smidgen.analysis.charts import HEIGHT, WIDTH, ticks

finite = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def drawn_points(html: str) -> list[tuple[float, float]]:
    return [
        tuple(map(float, pair.split(","))) for line in re.findall(r'points="([^"]*)"', html) for pair in line.split()
    ]


@example([(0.0, 5e-324)])
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=600))
def test_lines_stay_inside_the_picture(points: list[tuple[float, float]]) -> None:
    html = line_chart([Series("loss", sorted(points))], horizontal="steps", label="loss")
    ElementTree.fromstring(html)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn_points(html))


def test_higher_values_are_higher_and_gaps_are_left_out() -> None:
    html = line_chart([Series("AP", [(0, 0.1), (1, float("nan")), (2, 0.4)])], horizontal="minutes", label="AP")
    (left, low), (right, high) = drawn_points(html)
    assert left < right and high < low


@given(finite, st.floats(min_value=1e-3, max_value=1e6))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 7
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_names_are_escaped_and_nothing_is_said_to_be_nothing() -> None:
    assert "&lt;b&gt;" in line_chart([Series("<b>", [(0, 1), (1, 2)])], horizontal="x", label="y")
    assert "no measurements" in line_chart([], horizontal="x", label="y")


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_constant_line_can_be_drawn(value: float) -> None:
    assert len(drawn_points(line_chart([Series("c", [(0, value), (1, value)])], horizontal="x", label="y"))) == 2
