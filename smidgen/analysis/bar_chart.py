"""Bars as SVG, standing for histograms and lying for choices, colored by the page's style sheet as line charts are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from smidgen.analysis.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, ticks

LETTER_PX = 7.0
ROW_PX = 26
MARGIN_PX = 8


@dataclass(frozen=True, slots=True)
class Bars:
    """A name and one height (>= 0) per place of the chart."""

    name: str
    heights: Sequence[float]


@dataclass(frozen=True, slots=True)
class Row:
    """A lying bar: its label, its length as a share in [0, 1], and the value in words."""

    label: str
    share: float
    words: str


def bar_chart(places: Sequence[str], bars: Sequence[Bars], *, horizontal: str, label: str) -> str:
    """An <svg> of standing bars, side by side at each place. horizontal: what the places are; label: what it shows."""
    most = max((height for one in bars for height in one.heights), default=0)
    if not places or most <= 0:
        return '<p class="note">nothing to count</p>'
    steps = ticks(0.0, float(most))
    top = steps[-1] if steps[-1] >= most else steps[-1] + steps[-1] - steps[-2]
    drawn = "".join(_standing(one, index, len(bars), top) for index, one in enumerate(bars))
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{_rows(ticks(0.0, top), top)}{drawn}{_places(places)}"
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(horizontal)}</text></svg>{_legend(bars)}</div>"
    )


def lying_bars(rows: Sequence[Row], *, label: str, chosen: int | None = None) -> str:
    """An <svg> of one bar below the other with their values; the chosen one has a color of its own."""
    left = LETTER_PX * max((len(row.label) for row in rows), default=0) + MARGIN_PX
    right = LETTER_PX * max((len(row.words) for row in rows), default=0) + MARGIN_PX
    lines = "".join(
        f'<text class="axis" x="{left - MARGIN_PX:.1f}" y="{place * ROW_PX + 18}" text-anchor="end">'
        f"{escape(row.label)}</text>"
        f'<rect class="fill{int(place == chosen)}" x="{left:.1f}" y="{place * ROW_PX + 5}" rx="2" '
        f'width="{max(row.share * (WIDTH - left - right), 0.5):.1f}" height="{ROW_PX - 9}"/>'
        f'<text class="axis" x="{WIDTH - right + MARGIN_PX / 2:.1f}" y="{place * ROW_PX + 18}">'
        f"{escape(row.words)}</text>"
        for place, row in enumerate(rows)
    )
    box = f"0 0 {WIDTH} {len(rows) * ROW_PX + 4}"
    return f'<div class="chart"><svg viewBox="{box}" role="img" aria-label="{escape(label)}">{lines}</svg></div>'


def _standing(bars: Bars, index: int, number: int, top: float) -> str:
    space = (WIDTH - LEFT - RIGHT) / len(bars.heights)
    width = space * 0.84 / number
    scale = (HEIGHT - BOTTOM - TOP) / top
    return "".join(
        f'<rect class="fill{index}" x="{LEFT + place * space + 0.08 * space + index * width:.2f}" '
        f'y="{HEIGHT - BOTTOM - height * scale:.2f}" width="{width:.2f}" height="{height * scale:.2f}">'
        f"<title>{height:g}</title></rect>"
        for place, height in enumerate(bars.heights)
        if height > 0
    )


def _rows(values: Sequence[float], top: float) -> str:
    scale = (HEIGHT - BOTTOM - TOP) / top
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM - value * scale:.1f}" '
        f'y2="{HEIGHT - BOTTOM - value * scale:.1f}"/><text class="axis" x="{LEFT - 6}" '
        f'y="{HEIGHT - BOTTOM - value * scale + 4:.1f}" text-anchor="end">{_short(value)}</text>'
        for value in values
    )


def _places(places: Sequence[str]) -> str:
    """As many names as there is room for."""
    space = (WIDTH - LEFT - RIGHT) / len(places)
    every = max(1, -int(-LETTER_PX * (max(map(len, places)) + 1) // space))
    return "".join(
        f'<text class="axis" x="{LEFT + (index + 0.5) * space:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
        f"{escape(place)}</text>"
        for index, place in enumerate(places)
        if index % every == 0
    )


def _legend(bars: Sequence[Bars]) -> str:
    if len(bars) < 2:
        return ""
    names = "".join(f'<span><i class="stroke{index}"></i>{escape(one.name)}</span>' for index, one in enumerate(bars))
    return f'<div class="legend">{names}</div>'


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}"
