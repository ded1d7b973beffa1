"""Where a query head sees small objects near, and which cells of the finest levels were computed for it.

Yang et al., "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small Object Detection", CVPR 2022,
figures 5 and 6 show such maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smidgen.analysis.dense_observation import DenseSight, Pointing
from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import (
    TRUTH_COLOR,
    Picture,
    how_many,
    image_panels,
    inside_image,
    lay_heat,
    legend_below,
    level_color,
    mean_of,
    outline_boxes,
    touched_cells,
    true_boxes,
)
from smidgen.decoder.cascaded_head import ComputedCells, ComputedLevel
from smidgen.structures import Cells, evidence_of

COLOR_BAR_INCHES = 0.7
KEY_COLOR, CONTEXT_COLOR = (0.90, 0.62, 0.0, 0.60), (0.34, 0.71, 0.91, 0.38)  # red, green, blue, opacity
OTHER_TRUTH_COLOR = "#FFFFFF"


def why_no_query_heat(observation: Observation) -> str | None:
    """What is missing for the maps, in words for people; None where nothing is."""
    pointing = None if observation.dense is None else observation.dense.pointing
    return "it has no query head that points at small objects (query_det...)" if pointing is None else None


def why_no_computed_cells(observation: Observation) -> str | None:
    """What is missing to show what was computed, in words for people; None where nothing is."""
    if observation.dense is None:
        return "it has no cascade that chooses cells (query_det...)"
    found = evidence_of(observation.output.evidence, ComputedCells)
    return None if found is not None and found.levels else "it computes all cells: it has no cascade"


def query_heat_picture(observation: Observation, index: int) -> Picture:
    """Query scores of every taught level over one image, one panel per level.

    data: per level its stride, number of cells, largest score, cells above the cascade's threshold (None without a
    cascade), and the mean score of cells that touch an object that is small there and of the others (None where there
    are none). Raises ValueError where the model has no query head.
    """
    sight, pointing = _sight_of(observation)
    canvas_hw = sight.output.canvas_hw
    levels = sorted(pointing.scores.scores)
    maps = [pointing.scores.scores[level][index].clamp(min=0).cpu().numpy() for level in levels]
    boxes = true_boxes(observation, index)
    small = [_small(boxes, pointing.limits_px[level]) for level in levels]
    rows = [
        _heat_row(observation, index, pointing, level, heat, boxes[own])
        for level, heat, own in zip(levels, maps, small, strict=True)
    ]
    heading = "Query scores: how likely a small object is near each cell"
    figure, panels = image_panels(observation, index, [_heat_title(row, pointing) for row in rows], heading)
    top = max(max(row["largest"] for row in rows), 1e-6)
    for axes, heat, own in zip(panels, maps, small, strict=True):
        drawn = lay_heat(axes, heat, canvas_hw, top)
        outline_boxes(axes, boxes[~own], OTHER_TRUTH_COLOR)
        outline_boxes(axes, boxes[own])
    words = "query score: 0 = nothing small is near, 1 = something is (the scale ends at this image's largest value)"
    figure.set_figheight(figure.get_figheight() + COLOR_BAR_INCHES)
    figure.colorbar(drawn, ax=panels, location="bottom", shrink=0.6, aspect=50, label=words)
    legend_below(figure, [("box", TRUTH_COLOR, "small to this level"), ("box", OTHER_TRUTH_COLOR, "larger objects")])
    return Picture(figure, {"levels": rows})


def computed_cells_picture(observation: Observation, index: int) -> Picture:
    """The keys and their context on each level that is not computed densely, one panel per level.

    data: per level its stride, the image's cells, the shares of them that answer (keys) and that are computed, and how
    many of the objects that are small to the level above have a key at their center. Raises ValueError without a
    cascade.
    """
    computed = _computed_of(observation)
    sight, pointing = _sight_of(observation)
    boxes = true_boxes(observation, index)
    rows = [_computed_row(observation, index, sight, pointing, level, boxes) for level in computed.levels]
    heading = "Which cells of the finest levels were computed; all cells of the coarser levels are"
    figure, panels = image_panels(observation, index, [_computed_title(row) for row in rows], heading)
    for axes, level in zip(panels, computed.levels, strict=True):
        _lay_cells(axes, level, index, sight.output.strides[level.level])
        outline_boxes(axes, boxes)
    legend_below(
        figure,
        [
            ("dot", "#E69F00", "keys: cells that answer"),
            ("dot", "#56B4E9", "context: computed for the keys' sake"),
            ("box", TRUTH_COLOR, f"true boxes ({len(boxes)})"),
        ],
    )
    return Picture(figure, {"levels": rows})


@dataclass(frozen=True, slots=True)
class ComputedShares:
    """By image (row) and sparse level (column), the share of the level's cells in the image; batches are put together.

    strides: of the levels. keys: share that answers. active: share that is computed, keys and context.
    """

    strides: tuple[int, ...]
    keys: npt.NDArray[np.float64]
    active: npt.NDArray[np.float64]

    def __add__(self, other: ComputedShares) -> ComputedShares:
        if self.strides != other.strides:
            raise ValueError(f"expected shares of the same levels to add, got strides {self.strides}, {other.strides}")
        return ComputedShares(
            self.strides, np.concatenate([self.keys, other.keys]), np.concatenate([self.active, other.active])
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: means over images, and the image with most."""
        levels = [
            {"stride": stride, "keys": keys, "computed": mean, "most_computed": most}
            for stride, keys, mean, most in zip(
                self.strides,
                self.keys.mean(axis=0).tolist(),
                self.active.mean(axis=0).tolist(),
                self.active.max(axis=0).tolist(),
                strict=True,
            )
        ]
        return {"images": len(self.active), "levels": levels}


def count_computed(observation: Observation) -> ComputedShares:
    """Count one batch. Raises ValueError without a cascade."""
    computed = _computed_of(observation)
    sight, _ = _sight_of(observation)
    strides = tuple(sight.output.strides[level.level] for level in computed.levels)
    images = range(len(observation))
    keys = [[_share(observation, index, level.keys, sight) for level in computed.levels] for index in images]
    active = [[_share(observation, index, level.active, sight) for level in computed.levels] for index in images]
    return ComputedShares(strides, np.array(keys), np.array(active))


def computed_shares_chart(shares: ComputedShares) -> Picture:
    """Share of cells, image by image, most first: computed (solid) and answering (dashed), a color per level.

    data: `ComputedShares.to_json()`.
    """
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    figure.suptitle(f"What the cascade computed in {how_many(len(shares.active), 'image')}", fontsize=13)
    axes = figure.subplots()
    place = np.arange(1, len(shares.active) + 1)
    for column, stride in enumerate(shares.strides):
        order = shares.active[:, column].argsort()[::-1]
        color, words = level_color(column), f"stride {stride} px"
        axes.plot(place, 100 * shares.active[order, column], color=color, marker=".", label=f"{words}: computed")
        keys = 100 * shares.keys[order, column]
        axes.plot(place, keys, color=color, linestyle="--", linewidth=1, label=f"{words}: keys")
    axes.set(xlabel="image, those with most first (each level in its own order)", ylabel="share of its cells in %")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9)
    return Picture(figure, shares.to_json())


def _sight_of(observation: Observation) -> tuple[DenseSight, Pointing]:
    sight = observation.dense
    if sight is None or sight.pointing is None:
        raise ValueError("expected a model with a query head that points at small objects (query_det...), got another")
    return sight, sight.pointing


def _computed_of(observation: Observation) -> ComputedCells:
    reason = why_no_computed_cells(observation)
    found = evidence_of(observation.output.evidence, ComputedCells)
    if reason is not None or found is None:
        raise ValueError(f"expected a model with a cascade (query_det...), but {reason}")
    return found


def _small(boxes_xyxy: npt.NDArray[Any], limit_px: float) -> npt.NDArray[np.bool_]:
    width, height = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clip(min=0).T
    small: npt.NDArray[np.bool_] = np.sqrt(width * height) < limit_px
    return small


def _heat_row(
    observation: Observation,
    index: int,
    pointing: Pointing,
    level: int,
    heat: npt.NDArray[Any],
    boxes_xyxy: npt.NDArray[Any],
) -> dict[str, Any]:
    assert observation.dense is not None
    stride = pointing.scores.strides[level]
    shown = inside_image(heat, observation, index, observation.dense.output.canvas_hw)
    near = touched_cells(boxes_xyxy, shown.shape, (stride, stride))
    threshold = None if pointing.cascade is None else pointing.cascade.threshold
    return {
        "stride": stride,
        "cells": int(shown.size),
        "largest": float(shown.max()),
        "above_threshold": None if threshold is None else int((shown > threshold).sum()),
        "mean_on_objects": mean_of(shown[near]),
        "mean_elsewhere": mean_of(shown[~near]),
    }


def _heat_title(row: dict[str, Any], pointing: Pointing) -> str:
    named = {"on small objects": row["mean_on_objects"], "elsewhere": row["mean_elsewhere"]}
    means = ", ".join(f"{value:.2f} {where}" for where, value in named.items() if value is not None)
    title = f"stride {row['stride']} px: mean {means}"
    if pointing.cascade is None:
        return title
    return f"{title}\n{row['above_threshold']} of {row['cells']} cells above {pointing.cascade.threshold:g}"


def _computed_row(
    observation: Observation,
    index: int,
    sight: DenseSight,
    pointing: Pointing,
    level: ComputedLevel,
    boxes_xyxy: npt.NDArray[Any],
) -> dict[str, Any]:
    stride = sight.output.strides[level.level]
    keys = _mask(level.keys, index)
    small = boxes_xyxy[_small(boxes_xyxy, pointing.limits_px[level.level + 1])]
    column, row = ((small[:, :2] + small[:, 2:]) / 2 // stride).astype(int).T
    answered = keys[row.clip(0, keys.shape[0] - 1), column.clip(0, keys.shape[1] - 1)]
    return {
        "stride": stride,
        "cells": int(inside_image(keys, observation, index, sight.output.canvas_hw).size),
        "keys": _share(observation, index, level.keys, sight),
        "computed": _share(observation, index, level.active, sight),
        "small_objects": len(small),
        "with_key_at_center": int(answered.sum()),
    }


def _computed_title(row: dict[str, Any]) -> str:
    shares = f"{row['keys']:.1%} of {row['cells']} cells answer, {row['computed']:.1%} computed"
    found = f"{row['with_key_at_center']} of {how_many(row['small_objects'], 'small object')} with a key at the center"
    return f"stride {row['stride']} px: {shares}\n{found}"


def _share(observation: Observation, index: int, cells: Cells, sight: DenseSight) -> float:
    return float(inside_image(_mask(cells, index), observation, index, sight.output.canvas_hw).mean())


def _mask(cells: Cells, index: int) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = cells.mask()[index].cpu().numpy()
    return mask


def _lay_cells(axes: Axes, level: ComputedLevel, index: int, stride: int) -> None:
    keys, active = _mask(level.keys, index), _mask(level.active, index)
    colors = np.zeros((*keys.shape, 4))
    colors[active], colors[keys] = CONTEXT_COLOR, KEY_COLOR
    limits = axes.get_xlim(), axes.get_ylim()
    rows, columns = keys.shape
    axes.imshow(colors, extent=(0, columns * stride, rows * stride, 0), interpolation="nearest")
    axes.set(xlim=limits[0], ylim=limits[1])
