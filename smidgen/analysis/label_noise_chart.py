"""How far AP can be trusted for small boxes: under label noise, and under a likeness that forgives a few pixels."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.panels import Picture, how_many
from smidgen.evaluation.label_noise import LabelNoise, NoiseBySize
from smidgen.evaluation.wasserstein import LikenessBySize, WassersteinComparison

EXACT_COLOR, NOISY_COLOR, CEILING_COLOR = "#0072B2", "#56B4E9", "#D55E00"
IOU_COLOR, WASSERSTEIN_COLOR = "#0072B2", "#E69F00"


def label_noise_chart(noise: LabelNoise) -> Picture:
    """AP as given and under noise with its spread, and what perfect boxes would score. data: `LabelNoise.to_json()`."""
    figure = Figure(figsize=(10.0, 5.0), layout="constrained")
    kind = f"by up to {noise.pixels:g} px" if noise.kind == "uniform" else f"with a deviation of {noise.pixels:g} px"
    figure.suptitle(f"AP when the labels' edges move {kind}, {how_many(noise.seeds, 'time')}", fontsize=13)
    shown = [one for one in noise.by_size if one.objects]
    _draw_noise(figure.subplots(), shown)
    return Picture(figure, noise.to_json())


def wasserstein_chart(comparison: WassersteinComparison) -> Picture:
    """AP by size under IoU and under the normalized Wasserstein distance. data: `WassersteinComparison.to_json()`."""
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    figure.suptitle(f"AP by IoU and by normalized Wasserstein distance, C = {comparison.constant_px:g} px", fontsize=13)
    _draw_likeness(figure.subplots(), [one for one in comparison.by_size if one.objects], comparison.lowest)
    return Picture(figure, comparison.to_json())


def _draw_noise(axes: Axes, shown: list[NoiseBySize]) -> None:
    place = np.arange(len(shown))
    exact, mean = [one.exact for one in shown], [one.mean for one in shown]
    spread = [one.spread for one in shown]
    axes.bar(place - 0.19, exact, 0.36, color=EXACT_COLOR, label="labels as given")
    axes.bar(place + 0.19, mean, 0.36, yerr=spread, capsize=4, color=NOISY_COLOR, label="labels moved (mean, spread)")
    ceiling = [one.ceiling for one in shown]
    axes.hlines(
        ceiling, place - 0.4, place + 0.4, color=CEILING_COLOR, linewidth=2, label="perfect boxes, labels moved"
    )
    for x, one in zip(place.tolist(), shown, strict=True):
        axes.text(x - 0.19, one.exact + 0.01, f"{one.exact:.3f}", ha="center", fontsize=9)
        axes.text(
            x + 0.19, one.mean + one.spread + 0.015, f"{one.mean:.3f}\n±{one.spread:.3f}", ha="center", fontsize=9
        )
        axes.text(x + 0.4, one.ceiling + 0.012, f"{one.ceiling:.2f}", ha="right", fontsize=9, color=CEILING_COLOR)
    names = [f"{one.size}\n{how_many(one.objects, 'object')}\nlabels' IoU {one.iou:.2f}" for one in shown]
    axes.set_xticks(place, names)
    _finish(axes)


def _draw_likeness(axes: Axes, shown: list[LikenessBySize], lowest: float) -> None:
    place = np.arange(len(shown))
    bars = (
        (-0.3, "iou", IOU_COLOR, 1.0, "IoU, mean over thresholds"),
        (-0.1, "wasserstein", WASSERSTEIN_COLOR, 1.0, "Wasserstein, mean over thresholds"),
        (0.1, "iou_lowest", IOU_COLOR, 0.45, f"IoU, {lowest:g} alone"),
        (0.3, "wasserstein_lowest", WASSERSTEIN_COLOR, 0.45, f"Wasserstein, {lowest:g} alone"),
    )
    for offset, field, color, opacity, label in bars:
        values = [float(getattr(one, field)) for one in shown]
        axes.bar(place + offset, values, 0.19, color=color, alpha=opacity, label=label)
        for x, value in zip((place + offset).tolist(), values, strict=True):
            axes.text(x, value + 0.008, f"{value:.3f}", ha="center", fontsize=8)
    axes.set_xticks(place, [f"{one.size}\n{how_many(one.objects, 'object')}" for one in shown])
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set(ylabel="AP", ylim=(0, 1.08))
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(0, 1.12), fontsize=9)
