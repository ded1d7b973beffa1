"""The table of lost objects as a picture: stages downward in the order in which objects pass them, sizes across."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.loss_stages import PLACE_STAGES, STAGES
from smidgen.analysis.object_fates import LostObjects
from smidgen.analysis.panels import Picture, how_many

WIDTH_INCHES = 11.0
ROW_INCHES = 0.36
SHADES = "Oranges"
DARKEST = 0.75
ABSENT_COLOR, SUM_COLOR = "#F3F3F3", "#E4ECF4"
MINOR_TEXT = "#777777"


def lost_objects_picture(lost: LostObjects) -> Picture:
    """Missed objects by stage and size, shaded by their share of the size's objects; sums, found and all below.

    data: `LostObjects.to_json()`.
    """
    names, ranges = lost.rules.sizes.names, lost.rules.sizes.words()
    headings = [f"{name}\n{words}" for name, words in zip(names, ranges, strict=True)]
    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * (len(STAGES) + 3) + 1.9), layout="constrained")
    missed, objects = int(lost.table.sum()), int(lost.objects.sum())
    figure.suptitle(
        f"Where {missed} of {how_many(objects, 'object')} in {how_many(lost.images, 'image')} were lost", fontsize=13
    )
    axes = figure.subplots()
    _draw_stages(axes, lost)
    _draw_sums(axes, lost)
    _label(axes, [*headings, "all sizes", "found\nall the same"], [*STAGES.values(), "missed", "found", "objects"])
    figure.supxlabel(_footnote(lost), fontsize=9, color=MINOR_TEXT)
    return Picture(figure, lost.to_json())


def _draw_stages(axes: Axes, lost: LostObjects) -> None:
    table, objects = lost.table, np.maximum(lost.objects, 1)
    shades, sums = colormaps[SHADES], table.sum(axis=1)
    columns = table.shape[1]
    for row, stage in enumerate(STAGES):
        if stage not in lost.stages:
            for column in range(columns + 1):
                _cell(axes, row, column, "-", ABSENT_COLOR, MINOR_TEXT)
            continue
        for column, count in enumerate(table[row].tolist()):
            color = shades(DARKEST * count / objects[column]) if count else "white"
            text_color = "#111111" if count else MINOR_TEXT
            _cell(axes, row, column, _counted(count, int(lost.objects[column])), color, text_color)
        _cell(axes, row, columns, _counted(int(sums[row]), int(lost.objects.sum())), SUM_COLOR)
    for row, count in enumerate(lost.found_despite.tolist()):
        if PLACE_STAGES[row] in lost.stages:
            _cell(axes, row, columns + 1, str(count), "white", MINOR_TEXT)


def _draw_sums(axes: Axes, lost: LostObjects) -> None:
    first = len(STAGES)
    rows = (lost.table.sum(axis=0), lost.found, lost.objects)
    for row, counts in enumerate(rows):
        for column, count in enumerate([*counts.tolist(), int(counts.sum())]):
            of = [*lost.objects.tolist(), int(lost.objects.sum())][column]
            words = str(count) if row == len(rows) - 1 else _counted(count, of)
            _cell(axes, first + row, column, words, SUM_COLOR)
    axes.axhline(first - 0.5, color="#666666", linewidth=1)


def _counted(count: int, of: int) -> str:
    """A number with its share of all objects of the size."""
    return f"{count}  ({count / of:.0%})" if count else ("0" if of else "")


def _cell(axes: Axes, row: int, column: int, words: str, color: Any, text_color: str = "#111111") -> None:
    axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=color, linewidth=0)
    axes.text(column, row, words, ha="center", va="center", fontsize=10, color=text_color)


def _label(axes: Axes, columns: list[str], rows: list[str]) -> None:
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(rows)), rows, fontsize=10)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def _footnote(lost: LostObjects) -> str:
    rules = lost.rules
    cut = "" if rules.limit is None else f", among an image's {rules.limit} best"
    return (
        f"found: a detection of the right class, IoU {rules.iou:g} or more, score {rules.score_floor:g} or more{cut}. "
        "Sizes: square root of the area in pixels of the image on disk.\n"
        "Per cent: of the objects of the size. -: this detector has no such stage. "
        "Found all the same: found although this stage failed them."
    )
