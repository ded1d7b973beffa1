"""A grid of shaded cells as SVG: the fuller the color, the more there is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from smidgen.analysis.bar_chart import LETTER_PX
from smidgen.analysis.charts import WIDTH

ROW_PX = 24


def heat_grid(
    values: Sequence[Sequence[float]],
    *,
    label: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    square: bool = False,
) -> str:
    """An <svg> of cells whose opacity is the value's share of the largest. rows, columns: names, or none.

    label: what it shows, in words. square: cells as high as wide.
    """
    most = max((value for row in values for value in row), default=0)
    if most <= 0:
        return '<p class="note">nothing to count</p>'
    left = LETTER_PX * max((len(row) for row in rows), default=0) + 8
    cell = (WIDTH - left - 4) / len(values[0])
    high = cell if square else ROW_PX
    cells = "".join(
        f'<rect class="fill0" x="{left + x * cell:.2f}" y="{y * high:.2f}" width="{cell:.2f}" height="{high:.2f}" '
        f'fill-opacity="{value / most:.3f}"><title>{value:.3g}</title></rect>'
        for y, row in enumerate(values)
        for x, value in enumerate(row)
        if value > 0
    )
    bottom = len(values) * high
    frame = f'<path class="grid" fill="none" d="M{left:.1f} 0.5H{WIDTH - 4}V{bottom:.1f}H{left:.1f}Z"/>'
    height = bottom + (20 if columns else 2)
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {height:.1f}" role="img" aria-label="{escape(label)}">'
        f"{frame}{cells}{_rows(rows, left, high)}{_columns(columns, left, cell, bottom + 15)}</svg></div>"
    )


def _rows(names: Sequence[str], left: float, high: float) -> str:
    return "".join(_text(name, left - 6, (place + 0.5) * high + 4, "end") for place, name in enumerate(names))


def _columns(names: Sequence[str], left: float, cell: float, y: float) -> str:
    """As many names as there is room for."""
    every = max(1, -int(-LETTER_PX * (max(map(len, names), default=0) + 1) // cell))
    places = range(0, len(names), every)
    return "".join(_text(names[place], left + (place + 0.5) * cell, y, "middle") for place in places)


def _text(words: str, x: float, y: float, anchor: str) -> str:
    return f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
