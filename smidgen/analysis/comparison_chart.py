"""Several systems side by side: figures with intervals by metric, and their differences to the first system."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.panels import Picture, how_many
from smidgen.evaluation.comparison import CANNOT_TELL, Compared, Comparison

# Okabe and Ito's colors, dark ones first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
ROW_INCHES = 0.28
LONGEST_NAME, LONGEST_DATA = 40, 110


def comparison_picture(comparison: Comparison, data: str = "") -> Picture:
    """A row per metric and system, best read downwards: the figure on the left, the difference on the right.

    data: where the images are from, in words, for the heading.
    Hollow marks: an interval that holds 0 tells nothing apart. data of the picture: `Comparison.to_json()`.
    """
    differs = len(comparison.systems) > 1
    rows = len(comparison.metrics) * (len(comparison.systems) + 0.8)
    figure = Figure(figsize=(12.0, 2.2 + ROW_INCHES * rows), layout="constrained")
    figure.suptitle(_heading(comparison, data), fontsize=12)
    panels = figure.subplots(1, 1 + differs, sharey=True, squeeze=False)[0].tolist()
    _draw_figures(panels[0], comparison)
    if differs:
        _draw_differences(panels[1], comparison)
    _label_metrics(panels[0], comparison)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)), fontsize=10, frameon=False)
    return Picture(figure, comparison.to_json())


def _heading(comparison: Comparison, data: str) -> str:
    images, samples = how_many(comparison.images, "image"), how_many(comparison.samples, "resampling")
    origin = f"\n{data[:LONGEST_DATA]}{'...' if len(data) > LONGEST_DATA else ''}" if data else ""
    return f"{comparison.protocol.label} on {images}; 95 % intervals over {samples} of them{origin}"


def _draw_figures(axes: Axes, comparison: Comparison) -> None:
    for number, system in enumerate(comparison.systems):
        color = COLORS[number % len(COLORS)]
        places = _places(comparison, number)
        for metric, place in zip(comparison.metrics, places, strict=True):
            estimate = system.figures[metric]
            _draw_interval(axes, place, (estimate.value, estimate.low, estimate.high), color, filled=True)
            if len(estimate.by_run) > 1:
                axes.plot(estimate.by_run, [place] * len(estimate.by_run), "|", color=color, markersize=9)
        axes.plot([], [], "o-", color=color, label=_named(system))
    axes.set_title("figures (short strokes: single seeds)" if _has_seeds(comparison) else "figures", fontsize=10)
    _finish(axes)


def _draw_differences(axes: Axes, comparison: Comparison) -> None:
    axes.axvline(0, color="#333333", linewidth=1)
    for number, system in enumerate(comparison.systems):
        for metric, place in zip(comparison.metrics, _places(comparison, number), strict=True):
            if metric in system.differences:
                found = system.differences[metric]
                told = found.verdict != CANNOT_TELL
                color = COLORS[number % len(COLORS)]
                _draw_interval(axes, place, (found.value, found.low, found.high), color, filled=told)
    axes.set_title(f"difference to {_shortened(comparison.systems[0].name)}\n(hollow: {CANNOT_TELL})", fontsize=10)
    axes.margins(x=0.08)
    _finish(axes)


def _draw_interval(axes: Axes, place: float, values: tuple[float, float, float], color: str, filled: bool) -> None:
    value, low, high = values
    axes.plot([low, high], [place, place], color=color, linewidth=1.8, solid_capstyle="butt")
    axes.plot([value], [place], "o", color=color, markersize=6.5, markerfacecolor=color if filled else "white")


def _places(comparison: Comparison, number: int) -> list[float]:
    """Vertical places of a system, metric after metric from the top."""
    step = len(comparison.systems) + 0.8
    return [-(index * step + number) for index in range(len(comparison.metrics))]


def _label_metrics(axes: Axes, comparison: Comparison) -> None:
    middle = (len(comparison.systems) - 1) / 2
    words = [
        f"{metric}\n{comparison.size_in_words(metric)}, {how_many(comparison.objects[metric], 'object')}"
        for metric in comparison.metrics
    ]
    axes.set_yticks([place - middle for place in _places(comparison, 0)], words, fontsize=9)


def _finish(axes: Axes) -> None:
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _named(system: Compared) -> str:
    seeds = len(next(iter(system.figures.values())).by_run)
    return _shortened(system.name) + (f" ({seeds} seeds)" if seeds > 1 else "")


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"...{name[-LONGEST_NAME:]}"


def _has_seeds(comparison: Comparison) -> bool:
    return any(len(estimate.by_run) > 1 for system in comparison.systems for estimate in system.figures.values())
