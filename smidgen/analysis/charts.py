"""Line charts as SVG: sharp at any size, colored by the page's style sheet, without a plotting library in the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 40
MOST_POINTS = 240
LEAST_RANGE = 1e-300  # what is smaller cannot be divided into steps


@dataclass(frozen=True)
class Series:
    """One line: its name and its (x, y) points in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Axis:
    """Maps [low, high] to pixels [start, stop]."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def line_chart(series: Sequence[Series], *, horizontal: str, label: str) -> str:
    """An <svg> of the lines. horizontal: name of the x axis; label: what the chart shows, in words."""
    drawn = [Series(one.name, _thinned(_finite(one.points))) for one in series]
    points = [point for one in drawn for point in one.points]
    if not points:
        return '<p class="note">no measurements</p>'
    x = _axis([x for x, _ in points], LEFT, WIDTH - RIGHT, rounded=False)
    y = _axis([y for _, y in points], HEIGHT - BOTTOM, TOP, rounded=True)
    lines = "".join(_line(one, index, x, y) for index, one in enumerate(drawn) if one.points)
    legend = "".join(
        f'<span><i class="stroke{index}"></i>{escape(one.name)}</span>' for index, one in enumerate(drawn) if one.points
    )
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{_grid(x, y)}{lines}"
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(horizontal)}</text>"
        f'</svg><div class="legend">{legend}</div></div>'
    )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS, each the mean of its neighbors."""
    size = -(-len(points) // MOST_POINTS) if points else 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _axis(values: Sequence[float], start: float, stop: float, rounded: bool) -> _Axis:
    """From zero (or below) to the largest value, or to the next round one."""
    low, high = min(0.0, *values), max(0.0, *values)
    if high - low < LEAST_RANGE:
        high = low + 1.0
    if not rounded:
        return _Axis(low, high, start, stop)
    step = ticks(low, high)[-1] - ticks(low, high)[-2]
    return _Axis(low, math.ceil(high / step - 1e-9) * step, start, stop)


def _grid(x: _Axis, y: _Axis) -> str:
    rows = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text class="axis" x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_number(value)}</text>'
        for value in ticks(y.low, y.high)
    )
    columns = "".join(
        f'<text class="axis" x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{_number(value)}</text>'
        for value in ticks(x.low, x.high)
    )
    return rows + columns


def _line(series: Series, index: int, x: _Axis, y: _Axis) -> str:
    path = " ".join(f"{x(horizontal):.1f},{y(vertical):.1f}" for horizontal, vertical in series.points)
    dots = "".join(
        f'<circle class="fill{index}" cx="{x(horizontal):.1f}" cy="{y(vertical):.1f}" r="3"/>'
        for horizontal, vertical in (series.points if len(series.points) <= 30 else ())
    )
    return f'<polyline class="stroke{index}" points="{path}"/>{dots}'


def _number(value: float) -> str:
    return f"{value:.10g}"
