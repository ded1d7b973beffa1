"""Where average precision is lost: the six types of error by object size, as a table of heat and as bars."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.panels import Picture, how_many, level_color
from smidgen.evaluation.error_types import ERROR_TYPES, SPECIAL_TYPES, ErrorTypes, SizeErrors

COLORS = "Oranges"
FEW = 10  # a size bin with fewer objects has a say in neither colors nor bars: one object more or less changes it all

MEANINGS = {
    "Cls": "wrong\nclass",
    "Loc": "poor\nbox",
    "Both": "wrong class,\npoor box",
    "Dupe": "found\nbefore",
    "Bkg": "nothing\nthere",
    "Miss": "missed\nobject",
    "FP": "all false\nalarms",
    "FN": "all not\nfound",
}


def error_type_chart(errors: ErrorTypes) -> Picture:
    """Above, per size bin, what mending a type of error gains; below, what a bin's errors cost over all sizes.

    data: `ErrorTypes.to_json()`.
    """
    shown = [one for one in errors.by_size if one.objects]
    figure = Figure(figsize=(11.0, 5.2 + 0.55 * max(1, len(shown))), layout="constrained")
    figure.suptitle(
        f"What costs average precision at IoU {errors.iou_threshold:g}, "
        f"in {how_many(errors.by_size[0].objects, 'object')}",
        fontsize=13,
    )
    table, bars = figure.subplots(2, 1, height_ratios=[0.8 + 0.55 * max(1, len(shown)), 3.2])
    if not shown:
        _say_nothing(table)
        _say_nothing(bars)
        return Picture(figure, errors.to_json())
    _draw_table(table, shown)
    _draw_bars(bars, [one for one in shown[1:] if one.objects >= FEW] or shown)
    return Picture(figure, errors.to_json())


def _draw_table(axes: Axes, shown: list[SizeErrors]) -> None:
    columns = (*ERROR_TYPES, *SPECIAL_TYPES)
    values = 100 * np.array([[one.gain[name] for name in columns] for one in shown])
    telling = np.array([one.objects >= FEW for one in shown])
    main = np.where(telling[:, None], values[:, : len(ERROR_TYPES)], 0.0)
    top = float(main.max(initial=1.0))
    axes.imshow(np.pad(main, ((0, 0), (0, len(SPECIAL_TYPES)))), cmap=COLORS, vmin=0, vmax=1.6 * top, aspect="auto")
    for row, one in enumerate(shown):
        for column, name in enumerate(columns):
            count = f"\n{one.counts[name]:,}" if name in one.counts else ""
            color = "black" if telling[row] else "#888888"
            words = f"{values[row, column]:+.1f}{count}"
            axes.text(column, row, words, ha="center", va="center", color=color, fontsize=9)
    axes.axvline(len(ERROR_TYPES) - 0.5, color="#444444", linewidth=1)
    axes.set_xticks(range(len(columns)), [f"{name}: {MEANINGS[name]}" for name in columns], fontsize=9)
    axes.set_yticks(
        range(len(shown)),
        [f"{one.size}\nAP {100 * one.average_precision:.1f}, {how_many(one.objects, 'object')}" for one in shown],
        fontsize=9,
    )
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(
        "AP in points that mending a type gains within a size bin, and its errors (each goes with its object)",
        pad=8,
        fontsize=11,
    )


def _draw_bars(axes: Axes, shown: list[SizeErrors]) -> None:
    width = 0.8 / len(shown)
    for index, one in enumerate(shown):
        place = np.arange(len(ERROR_TYPES)) + (index - (len(shown) - 1) / 2) * width
        values = [100 * one.gain_overall[name] for name in ERROR_TYPES]
        axes.bar(place, values, width * 0.92, color=level_color(index), label=one.size)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_xticks(range(len(ERROR_TYPES)), [MEANINGS[name].replace("\n", " ") for name in ERROR_TYPES])
    axes.set_ylabel("AP in points")
    axes.set_title("What mending one size bin's errors gains over all sizes")
    axes.legend(title="size of the object", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _say_nothing(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no objects", ha="center", va="center", transform=axes.transAxes)
