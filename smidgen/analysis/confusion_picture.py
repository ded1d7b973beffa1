"""What is taken for what, as a square of heat: true classes down, detected classes across, background last."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.panels import Picture
from smidgen.evaluation.confusion import BACKGROUND, ConfusionMatrix

MOST_CLASSES = 30
LONGEST_NAME = 22
SHARE_COLORS, FALSE_ALARM_COLORS = "Blues", "Oranges"


def confusion_picture(confusion: ConfusionMatrix) -> Picture:
    """Counts, colored by their share of the true class. Above 30 classes those with fewest objects are one row.

    data: `ConfusionMatrix.to_json()`, always with all classes.
    """
    names, counts = _largest_classes(confusion)
    size = len(names)
    side = 3.2 + 0.42 * size
    figure = Figure(figsize=(side + 1.2, side + 0.4), layout="constrained")
    figure.suptitle(
        f"What is taken for what: detections of at least {confusion.score_threshold:.2g}, "
        f"IoU {confusion.iou_threshold:g}",
        fontsize=12,
    )
    axes = figure.subplots()
    image, share = _draw_shares(axes, counts)
    for row, column in zip(*np.nonzero(counts), strict=True):
        words, color = _short(int(counts[row, column])), "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, words, ha="center", va="center", color=color, fontsize=9 if size <= 12 else 7)
    axes.set_xticks(range(size), [*names[:-1], "missed"], rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(size), [*names[:-1], "false alarms"], fontsize=9)
    axes.set(xlabel="detected as", ylabel="true class")
    for edge in (axes.axvline, axes.axhline):
        edge(size - 1.5, color="#444444", linewidth=1.2)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    return Picture(figure, confusion.to_json())


def _draw_shares(axes: Axes, counts: npt.NDArray[np.int64]) -> tuple[Any, npt.NDArray[np.float64]]:
    """Shares of the true class; false alarms, which have no total to be a share of, against the most of a class."""
    totals = counts.sum(axis=1, keepdims=True).astype(float)
    totals[-1] = counts[-1].max(initial=0)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    background = np.zeros(counts.shape, dtype=bool)
    background[-1] = True
    axes.imshow(np.ma.masked_array(share, ~background), cmap=FALSE_ALARM_COLORS, vmin=0, vmax=1)
    return axes.imshow(np.ma.masked_array(share, background), cmap=SHARE_COLORS, vmin=0, vmax=1), share


def _largest_classes(confusion: ConfusionMatrix) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names and counts with at most MOST_CLASSES rows and columns before background."""
    names, counts = list(confusion.names), confusion.counts
    if len(names) > MOST_CLASSES:
        order = np.argsort(-counts[:-1].sum(axis=1), kind="stable")
        group = np.empty(len(names) + 1, np.int64)
        group[order] = np.minimum(np.arange(len(names)), MOST_CLASSES - 1)
        group[-1] = MOST_CLASSES
        merged = np.zeros((MOST_CLASSES + 1,) * 2, np.int64)
        np.add.at(merged, (group[:, None], group[None]), counts)
        others = len(names) - MOST_CLASSES + 1
        names, counts = [*(names[index] for index in order[: MOST_CLASSES - 1]), f"{others} others"], merged
    return [_cut(name) for name in [*names, BACKGROUND]], counts


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _short(count: int) -> str:
    """1234 -> "1.2k", so that numbers fit their squares."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 10_000 else f"{count / 1000:.0f}k"
