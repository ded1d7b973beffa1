"""Curves of cost against what grows, one picture for each axis, from the results of benchmarks/growth.py.

Where scales are logarithmic, a straight line of slope 1 is cost in proportion. Points are medians over the rounds,
bands reach from the fastest to the slowest round.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from smidgen.checkpoints.atomic_write import write_atomically

IMAGES = Path(__file__).parents[2] / "docs" / "images"
COLORS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8a5a9e")


@dataclass(frozen=True)
class Panel:
    """One chart: of the measurements at `axis`, per image if asked, or memory in place of time.

    logarithmic: both scales, for what spans decades; else they are in proportion, the vertical one from zero.
    """

    axis: str
    title: str
    horizontal: str
    vertical: str = "CPU seconds of one thread"
    memory: bool = False
    per_image: bool = False
    logarithmic: bool = True


PICTURES: dict[str, tuple[Panel, ...]] = {
    "performance_side.png": (
        Panel("side_px", "dino_nano, one square image", "side of the image, px"),
        Panel("side_px", "Memory of the same", "side of the image, px", "peak beyond what was held, MiB", memory=True),
    ),
    "performance_queries_batch.png": (
        Panel("queries", "dino_nano at 640 px", "queries", logarithmic=False),
        Panel(
            "batch",
            "dino_nano at 640 px",
            "images in a batch",
            "CPU seconds per image",
            per_image=True,
            logarithmic=False,
        ),
    ),
    "performance_objects.png": (
        Panel("objects", "Training on one image of 320 px", "objects in the image"),
        Panel("scored_objects", "Scoring ten images", "objects in every image"),
    ),
}

Curve = list[tuple[float, list[float]]]


def draw(results: Path) -> None:
    """Replace the pictures whose measurements are all in the folder."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("growth_*.json"))]
    measurements = [measured for file in files for measured in file["measurements"]]
    for name, panels in PICTURES.items():
        curves = [curves_of(measurements, panel) for panel in panels]
        if all(curves):
            write_atomically(IMAGES / name, partial(figure_of(panels, curves).savefig, format="png"))
            print(f"drawn: {name}")


def curves_of(measurements: list[dict[str, Any]], panel: Panel) -> dict[str, Curve]:
    """Of every variant, its values of all rounds at every place of the axis, in order."""
    curves: dict[str, Curve] = defaultdict(list)
    for measured in measurements:
        if panel.axis not in (measured["at"] or {}):
            continue
        place: float = measured["at"][panel.axis]
        for variant in measured["variants"]:
            values = [variant["peak_mib"]] if panel.memory else variant["seconds"]
            share = place if panel.per_image else 1
            curves[variant["name"]].append((place, [value / share for value in values]))
    return {name: sorted(points) for name, points in curves.items()}


def figure_of(panels: tuple[Panel, ...], curves: list[dict[str, Curve]]) -> Figure:
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel, named in zip(figure.subplots(1, len(panels)), panels, curves, strict=True):
        draw_panel(axes, panel, named)
    return figure


def draw_panel(axes: Axes, panel: Panel, curves: dict[str, Curve]) -> None:
    for color, (name, points) in zip(COLORS, curves.items(), strict=False):
        places = [place for place, _ in points]
        axes.plot(places, [median(values) for _, values in points], "o-", color=color, markersize=4, label=name)
        low, high = ([side(values) for _, values in points] for side in (min, max))
        axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    places = sorted({place for points in curves.values() for place, _ in points})
    axes.set_xticks(places, [f"{place:g}" for place in places], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(title=panel.title, xlabel=panel.horizontal, ylabel=panel.vertical)
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
