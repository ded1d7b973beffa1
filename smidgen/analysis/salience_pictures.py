"""Which cells a salience-filtered encoder found worth its work: salience over the image, and tokens refined by layer.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024,
figures 1 and 4 show such maps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection

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
from smidgen.structures import ActiveTokens, Tokens, evidence_of
from smidgen.tokens.salience_filtering import SalienceMaps

COLOR_BAR_INCHES = 0.7
DOT_SHARE_OF_STRIDE = 0.34  # dots of neighboring levels, whose centers interleave, just do not touch


def salience_picture(observation: Observation, index: int) -> Picture:
    """Salience (the sigmoid of the logits) of every level over one image, one panel per level.

    data: per level its stride, largest salience, and mean salience of the cells that touch an object and of the others
    (None where there are none). Raises ValueError where the output has no SalienceMaps.
    """
    maps = _salience_of(observation)
    tokens = _judged_tokens(observation, maps)
    salience = [logits[index].float().sigmoid().cpu().numpy() for logits in maps.logits]
    shown = [inside_image(level, observation, index, maps.canvas_hw) for level in salience]
    boxes = true_boxes(observation, index)
    rows = [_level_row(level, boxes, stride, maps.canvas_hw, observation.images.sizes[index], whole)
            for level, stride, whole in zip(shown, tokens.strides, salience, strict=True)]  # fmt: skip
    heading = "Salience: how likely each cell is to belong to an object, in the eyes of the encoder"
    figure, panels = image_panels(observation, index, [_level_title(row) for row in rows], heading)
    top = max(max(row["largest"] for row in rows), 1e-6)
    for axes, level in zip(panels, salience, strict=True):
        heat = lay_heat(axes, level, maps.canvas_hw, top)
        outline_boxes(axes, boxes)
    words = "salience: 0 = background, 1 = object (the scale ends at this image's largest value)"
    figure.set_figheight(figure.get_figheight() + COLOR_BAR_INCHES)
    figure.colorbar(heat, ax=panels, location="bottom", shrink=0.6, aspect=50, label=words)
    legend_below(figure, [("box", TRUTH_COLOR, f"true boxes ({len(boxes)})")])
    return Picture(figure, {"levels": rows})


def refined_tokens_picture(observation: Observation, index: int) -> Picture:
    """The tokens that each encoder layer refined, one panel per layer, a dot per token, larger for larger strides.

    data: per layer the number of refined tokens by level and their share of the image's tokens (without padding).
    Raises ValueError where the output has no SalienceMaps.
    """
    maps = _salience_of(observation)
    tokens = _judged_tokens(observation, maps)
    total = int((~tokens.padding[index]).sum())
    chosen = [_refined(layer, index) for layer in maps.refined]
    rows = [_layer_row(number, indices, tokens, total) for number, indices in enumerate(chosen)]
    heading = f"Which of the image's {total} tokens each encoder layer refined"
    figure, panels = image_panels(observation, index, [_layer_title(row) for row in rows], heading)
    centers = _centers_px(observation, index, tokens)
    boxes = true_boxes(observation, index)
    for axes, indices in zip(panels, chosen, strict=True):
        _dots(axes, indices, centers, tokens)
        outline_boxes(axes, boxes)
    levels = [("dot", level_color(level), f"stride {stride} px") for level, stride in enumerate(tokens.strides)]
    legend_below(figure, [*levels, ("box", TRUTH_COLOR, f"true boxes ({len(boxes)})")])
    return Picture(figure, {"tokens": total, "layers": rows})


def _salience_of(observation: Observation) -> SalienceMaps:
    maps = evidence_of(observation.output.evidence, SalienceMaps)
    if maps is None:
        raise ValueError(
            "expected a model that filters tokens by salience (salience_detr), got one without SalienceMaps"
        )
    return maps


def _judged_tokens(observation: Observation, maps: SalienceMaps) -> Tokens:
    """The tokens of the levels that have a map: a sparse finest level is not filtered by salience."""
    if observation.tokens is None:
        raise ValueError("expected an observation with tokens; make it with smidgen.analysis.observe")
    tokens = observation.tokens
    return tokens.coarser() if len(tokens.shapes) > len(maps.logits) else tokens


def _level_row(
    shown: npt.NDArray[Any],
    boxes_xyxy: npt.NDArray[Any],
    stride: int,
    canvas_hw: tuple[int, int],
    size_hw: tuple[int, int],
    whole: npt.NDArray[Any],
) -> dict[str, Any]:
    cell_hw = canvas_hw[0] / whole.shape[0], canvas_hw[1] / whole.shape[1]
    touched = touched_cells(boxes_xyxy, shown.shape, cell_hw)
    return {
        "stride": stride,
        "cells": int(shown.size),
        "largest": float(shown.max()),
        "mean_on_objects": mean_of(shown[touched]),
        "mean_elsewhere": mean_of(shown[~touched]),
    }


def _level_title(row: dict[str, Any]) -> str:
    named = {"on objects": row["mean_on_objects"], "elsewhere": row["mean_elsewhere"]}
    means = ", ".join(f"{value:.3f} {where}" for where, value in named.items() if value is not None)
    return f"stride {row['stride']} px: mean {means}"


def _refined(layer: ActiveTokens, index: int) -> npt.NDArray[np.int64]:
    chosen: npt.NDArray[np.int64] = layer.index[index][~layer.padding[index]].cpu().numpy()
    return chosen


def _layer_row(number: int, indices: npt.NDArray[np.int64], tokens: Tokens, total: int) -> dict[str, Any]:
    level = np.searchsorted(tokens.starts, indices, side="right") - 1
    by_level = np.bincount(level, minlength=len(tokens.shapes)).tolist()
    return {"layer": number, "refined": len(indices), "by_level": by_level, "share": len(indices) / max(total, 1)}


def _layer_title(row: dict[str, Any]) -> str:
    return f"encoder layer {row['layer'] + 1}: {how_many(row['refined'], 'token')}, {row['share']:.1%}"


def _centers_px(observation: Observation, index: int, tokens: Tokens) -> npt.NDArray[Any]:
    height, width = observation.images.sizes[index]
    centers: npt.NDArray[Any] = tokens.centers()[index].float().cpu().numpy() * (width, height)
    return centers


def _dots(axes: Axes, indices: npt.NDArray[np.int64], centers: npt.NDArray[Any], tokens: Tokens) -> None:
    """Coarse levels first, so that the smaller dots of fine levels lie on top."""
    level = np.searchsorted(tokens.starts, indices, side="right") - 1
    for number in reversed(range(len(tokens.strides))):
        places = centers[indices[level == number]]
        diameter = np.full(len(places), DOT_SHARE_OF_STRIDE * tokens.strides[number])
        dots = EllipseCollection(
            diameter,
            diameter,
            np.zeros(len(places)),
            units="xy",
            offsets=places,
            offset_transform=axes.transData,
            facecolors=level_color(number),
            alpha=0.9,
        )
        axes.add_collection(dots, autolim=False)
