"""Pictures of several panels that show one image, and what the panels share: the truth, levels' colors, a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smidgen.analysis.observation import Observation
from smidgen.checkpoints.atomic_write import write_atomically

# Okabe and Ito's colors, which people of all color vision tell apart; finest level first.
LEVEL_COLORS = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#D55E00", "#009E73", "#0072B2")
TRUTH_COLOR = "#39FF14"
HEAT = "inferno"
DOTS_PER_INCH = 110
WIDTH_INCHES = 12.0
PANEL_HEIGHTS_INCHES = (1.5, 9.0)


def how_many(number: int, noun: str) -> str:
    """ "1 query", "2 queries", "2 images"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and the numbers it shows, as plain values that JSON can hold."""

    figure: Figure
    data: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write the figure as PNG, atomically; OSError where the folder cannot be written."""
        write_atomically(path, lambda partial: self.figure.savefig(partial, format="png", dpi=DOTS_PER_INCH))
        return path


def image_panels(
    observation: Observation, index: int, titles: Sequence[str], heading: str
) -> tuple[Figure, list[Axes]]:
    """One panel per title, each with image `index` without its padding, gray, in network-input pixels."""
    height, width = observation.images.sizes[index]
    columns = 2 if len(titles) in (2, 4) else min(len(titles), 3)
    rows = -(-len(titles) // columns)
    low, high = PANEL_HEIGHTS_INCHES
    panel_height = min(max(WIDTH_INCHES / columns * height / width, low), high) + 0.35
    figure = Figure(figsize=(WIDTH_INCHES, rows * panel_height + 0.9), layout="constrained")
    figure.suptitle(heading, fontsize=13)
    grid = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    ground = _darkened(observation, index)
    for axes, title in zip(grid, titles, strict=False):
        axes.imshow(ground, extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=255)
        axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    for axes in grid[len(titles) :]:
        axes.set_axis_off()
    return figure, grid[: len(titles)]


def outline_boxes(axes: Axes, boxes_xyxy: npt.NDArray[Any], color: str = TRUTH_COLOR, width: float = 0.8) -> None:
    """Thin rectangles in image pixels."""
    x0, y0, x1, y1 = np.asarray(boxes_xyxy, dtype=float).reshape(-1, 4).T
    corners = np.stack([x0, y0, x1, y0, x1, y1, x0, y1, x0, y0], axis=-1).reshape(-1, 5, 2)
    axes.add_collection(LineCollection(list(corners), colors=color, linewidths=width), autolim=False)


def true_boxes(observation: Observation, index: int) -> npt.NDArray[Any]:
    """The labeled objects of one image, M x 4 in network-input pixels."""
    boxes: npt.NDArray[Any] = observation.targets[index].boxes_xyxy.cpu().numpy()
    return boxes


def lay_heat(axes: Axes, values: npt.NDArray[Any], canvas_hw: tuple[int, int], top: float) -> Any:
    """Heat of a level whose opacity grows with the values (0 to top), so that the image shows where there is none."""
    height, width = canvas_hw
    extent = (0, width, height, 0)
    limits = axes.get_xlim(), axes.get_ylim()
    opacity = 0.1 + 0.75 * np.clip(values / top, 0, 1)
    heat = axes.imshow(values, extent=extent, cmap=HEAT, vmin=0, vmax=top, alpha=opacity, interpolation="nearest")
    axes.set(xlim=limits[0], ylim=limits[1])
    return heat


def inside_image(
    values: npt.NDArray[Any], observation: Observation, index: int, canvas_hw: tuple[int, int]
) -> npt.NDArray[Any]:
    """The part of a level whose cells begin inside the image."""
    height, width = observation.images.sizes[index]
    rows, columns = values.shape
    return values[: -(-height * rows // canvas_hw[0]), : -(-width * columns // canvas_hw[1])]


def touched_cells(
    boxes_xyxy: npt.NDArray[Any], shape: tuple[int, ...], cell_hw: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    """Cells that share area with a box."""
    top = np.arange(shape[0])[:, None] * cell_hw[0]
    left = np.arange(shape[1])[:, None] * cell_hw[1]
    x0, y0, x1, y1 = boxes_xyxy.astype(float).T
    in_rows = (top < y1) & (top + cell_hw[0] > y0)
    in_columns = (left < x1) & (left + cell_hw[1] > x0)
    touched: npt.NDArray[np.bool_] = (in_rows.astype(np.float32) @ in_columns.T.astype(np.float32)) > 0
    return touched


def mean_of(values: npt.NDArray[Any]) -> float | None:
    """None where there are none."""
    return float(values.mean()) if values.size else None


def level_color(level: int) -> str:
    """The color of a level, the same in every picture."""
    return LEVEL_COLORS[level % len(LEVEL_COLORS)]


def legend_below(figure: Figure, entries: Iterable[tuple[str, str, str]]) -> None:
    """A line of (kind, color, words) under all panels. kind: "dot", "ring" (a dot with a white rim) or "box"."""
    handles = [_legend_mark(kind, color, words) for kind, color, words in entries]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(6, len(handles)),
        fontsize=10,
        facecolor="#555555",
        labelcolor="white",
        framealpha=1,
    )


def _legend_mark(kind: str, color: str, words: str) -> Line2D:
    face = "none" if kind == "box" else color
    edge = "white" if kind == "ring" else color
    marker, size = {"dot": ("o", 5), "ring": ("o", 8), "box": ("s", 9)}[kind]
    return Line2D(
        [],
        [],
        label=words,
        linestyle="none",
        marker=marker,
        markersize=size,
        markerfacecolor=face,
        markeredgecolor=edge,
    )


def _darkened(observation: Observation, index: int) -> npt.NDArray[Any]:
    height, width = observation.images.sizes[index]
    pixels = observation.images.pixels[index, :, :height, :width].float().mean(dim=0)
    gray: npt.NDArray[Any] = (pixels * 0.7).cpu().numpy()
    return gray
