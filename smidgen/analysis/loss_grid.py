"""The table of lost objects as HTML: stages down as an object passes them, sizes across, shaded by share."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from smidgen.analysis.loss_stages import PLACE_STAGES, STAGES
from smidgen.analysis.object_fates import LostObjects

MOST_SHADE = 75
TELLING = 5
"""Shares of fewer objects are not shaded."""


def loss_grid(lost: LostObjects) -> str:
    """Stages that the detector has and sizes that there are objects of; sums, found and all below."""
    sizes = np.flatnonzero(lost.objects).tolist()
    names, ranges = lost.rules.sizes.names, lost.rules.sizes.words()
    headings = [f"{escape(names[size])}<br>{ranges[size]}" for size in sizes]
    head = "".join(f"<th>{words}</th>" for words in ("stage", *headings, "all sizes", "found<br>all the same"))
    objects, table = lost.objects[sizes].tolist(), lost.table[:, sizes]
    despite = dict(zip(PLACE_STAGES, lost.found_despite.tolist(), strict=True))
    rows = [
        _stage_row(words, table[row].tolist(), objects, despite.get(stage))
        for row, (stage, words) in enumerate(STAGES.items())
        if stage in lost.stages
    ]
    rows += [
        _sum_row("missed", table.sum(axis=0).tolist(), objects),
        _sum_row("found", lost.found[sizes].tolist(), objects),
        _sum_row("objects", objects, None),
    ]
    return (
        '<div class="table"><table class="shaded">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _stage_row(words: str, counts: Sequence[int], objects: Sequence[int], despite: int | None) -> str:
    cells = "".join(_cell(count, of) for count, of in zip(counts, objects, strict=True))
    total = f'<td class="sum">{_counted(sum(counts), sum(objects))}</td>'
    return f'<tr><td>{escape(words)}</td>{cells}{total}<td class="quiet">{"" if despite is None else despite}</td></tr>'


def _sum_row(name: str, counts: Sequence[int], objects: Sequence[int] | None) -> str:
    """objects: what the counts are shares of; None = they are the objects."""
    every = [*counts, sum(counts)]
    wholes = None if objects is None else [*objects, sum(objects)]
    words = map(str, every) if wholes is None else map(_counted, every, wholes)
    cells = "".join(f'<td class="sum">{one}</td>' for one in words)
    return f'<tr><td class="sum">{name}</td>{cells}<td class="sum"></td></tr>'


def _cell(count: int, of: int) -> str:
    if not count:
        return '<td class="quiet">0</td>'
    if of < TELLING:
        return f"<td>{_counted(count, of)}</td>"
    shade = f"background: color-mix(in srgb, var(--line1) {MOST_SHADE * count / of:.0f}%, transparent)"
    return f'<td style="{shade}">{_counted(count, of)}</td>'


def _counted(count: int, of: int) -> str:
    """A number with its share of all objects of the size."""
    return f"{count} ({count / of:.0%})" if count else "0"
