"""Reliability by size: how often detections of a score are right, against the diagonal where scores can be believed."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.panels import Picture, how_many, level_color
from smidgen.evaluation.calibration import Calibration, Reliability

MOST_COLUMNS = 3
FEW = 10  # below so many detections in a bin, its accuracy is drawn pale: it says little


def calibration_chart(calibration: Calibration) -> Picture:
    """One panel per size bin with detections. data: `Calibration.to_json()`."""
    shown = [one for one in calibration.by_size if one.detections.any()]
    columns = 2 if len(shown) == 4 else min(MOST_COLUMNS, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(max(6.0, 3.9 * columns), 3.9 * rows + 0.7), layout="constrained")
    figure.suptitle(
        f"How often detections of at least {calibration.least_score:g} are right (IoU {calibration.iou_threshold:g})",
        fontsize=13,
    )
    grid = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for index, (axes, one) in enumerate(zip(grid, shown, strict=False)):
        _draw(axes, one, level_color(index))
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    if not shown:
        grid[0].text(0.5, 0.5, "no such detections", ha="center", va="center", transform=grid[0].transAxes)
    return Picture(figure, calibration.to_json())


def _draw(axes: Axes, reliability: Reliability, color: str) -> None:
    bins = len(reliability.detections)
    left = np.arange(bins) / bins
    accuracy, mean_score = np.nan_to_num(reliability.accuracy), reliability.mean_score
    for start, height, number in zip(left.tolist(), accuracy.tolist(), reliability.detections.tolist(), strict=True):
        axes.bar(start, height, 1 / bins, align="edge", color=color, alpha=0.9 if number >= FEW else 0.35, ec="white")
        if number:
            axes.text(start + 0.5 / bins, height + 0.015, f"{number:,}", ha="center", fontsize=7, color="#444444")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
    axes.plot(mean_score, accuracy, "o", markersize=3.5, color="black")
    total = int(reliability.detections.sum())
    axes.set_title(
        f"{reliability.size}: error {reliability.expected_error:.3f}, {_tendency(reliability.overconfidence)}\n"
        f"{how_many(total, 'detection')}",
        fontsize=10,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.05), xlabel="score", ylabel="share that is right")
    axes.spines[["top", "right"]].set_visible(False)


def _tendency(overconfidence: float) -> str:
    if abs(overconfidence) < 0.005:
        return "balanced"
    return f"{abs(overconfidence):.2f} too {'sure' if overconfidence > 0 else 'careful'}"
