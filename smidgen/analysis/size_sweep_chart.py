"""Recall against object side as a picture: the pooled curve with its band, each scale's curve, and how many objects."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.panels import Picture, how_many
from smidgen.evaluation.recall_by_size import BELOW, LEAST_OBJECTS, NEVER, RecallCurve, SideReached
from smidgen.evaluation.size_sweep import SizeSweep

POOLED_COLOR = "#222222"
SIDE_COLORS = ("#D55E00", "#0072B2")
# Fewer objects make a scale's curve a zigzag that says nothing.
LEAST_DRAWN = 5


def size_sweep_picture(sweep: SizeSweep) -> Picture:
    """Two panels over one axis of sides: recall, and the objects behind it.

    data: `SizeSweep.to_json()`.
    """
    figure = Figure(figsize=(11.0, 7.4), layout="constrained")
    settings = sweep.settings
    figure.suptitle(
        f"Recall by object side: {how_many(sweep.images, 'image')} at {how_many(len(settings['scales']), 'scale')}, "
        f"detections of at least {settings['score']:g}, IoU from {settings['iou']:g}",
        fontsize=13,
    )
    recall, objects = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1)).tolist()
    _draw_curves(recall, sweep)
    for side, color in zip(sweep.sides, SIDE_COLORS, strict=False):
        _draw_side(recall, side, color)
    _draw_objects(objects, sweep.pooled)
    _label_sides(objects, sweep.pooled)
    recall.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return Picture(figure, sweep.to_json())


def _draw_curves(axes: Axes, sweep: SizeSweep) -> None:
    pooled, shown = sweep.pooled, sweep.pooled.objects > 0
    axes.fill_between(
        pooled.center_px[shown], pooled.low[shown], pooled.high[shown], color=POOLED_COLOR, alpha=0.15, linewidth=0
    )
    colors = colormaps["viridis"](np.linspace(0.05, 0.9, len(sweep.curves)))
    for curve, color in zip(sweep.curves, colors, strict=True):
        drawn = curve.objects >= LEAST_DRAWN
        axes.plot(
            curve.center_px[drawn],
            curve.recall[drawn],
            color=color,
            linewidth=1.1,
            marker=".",
            markersize=5,
            label=f"scale {curve.scale:g}",
        )
    axes.plot(
        pooled.center_px[shown],
        pooled.recall[shown],
        color=POOLED_COLOR,
        linewidth=2.6,
        marker="o",
        markersize=5,
        label="all scales, 95 % band",
    )
    axes.set(ylim=(-0.02, 1.02), ylabel="recall")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_side(axes: Axes, side: SideReached, color: str) -> None:
    """A line down from the curve, and its interval as a band; nothing where recall never gets there."""
    if side.side_px in (BELOW, NEVER):
        return
    low, high = axes.get_xlim()
    bounds = [low if side.low == BELOW else side.low, high if side.high == NEVER else side.high]
    axes.axvspan(*bounds, color=color, alpha=0.12, linewidth=0)
    axes.vlines(
        side.side_px,
        -0.02,
        side.share * side.plateau,
        color=color,
        linewidth=1.6,
        linestyle="--",
        label=f"{side.share:.0%} of the plateau\nfrom {side.side_px:.1f} px",
    )


def _draw_objects(axes: Axes, pooled: RecallCurve) -> None:
    few = (pooled.objects < LEAST_OBJECTS) & (pooled.objects > 0)
    low, width = pooled.edges_px[:-1], np.diff(pooled.edges_px)
    axes.bar(low, pooled.objects, width * 0.94, align="edge", color=np.where(few, "#bbbbbb", "#777777"))
    axes.set_yscale("symlog", linthresh=LEAST_OBJECTS)
    axes.axhline(LEAST_OBJECTS, color="#999999", linewidth=0.7, linestyle=":")
    axes.set(ylabel="objects", xlabel="side of the object in pixels of the network's input (square root of its area)")
    axes.spines[["top", "right"]].set_visible(False)


def _label_sides(axes: Axes, pooled: RecallCurve) -> None:
    axes.set_xscale("log", base=2)
    low, high = float(pooled.edges_px[0]), float(pooled.edges_px[-1])
    powers = 2.0 ** np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
    axes.set_xticks(powers, [f"{value:g}" for value in powers])
    axes.set_xlim(low, high)
