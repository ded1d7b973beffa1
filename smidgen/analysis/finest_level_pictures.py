"""Where a sparse finest level was asked for, and which of its tokens that gave (tokens/sparse_finest_level.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import (
    TRUTH_COLOR,
    Picture,
    how_many,
    image_panels,
    inside_image,
    lay_heat,
    legend_below,
    mean_of,
    outline_boxes,
    touched_cells,
    true_boxes,
)
from smidgen.structures import Tokens, evidence_of
from smidgen.tokens.sparse_finest_level import FinestLevel

COLOR_BAR_INCHES = 0.7
CHOSEN_COLOR = "#E69F00"
CHOSEN_OPACITY = 0.6


def why_no_finest_level(observation: Observation) -> str | None:
    """What is missing for the picture, in words for people; None where nothing is."""
    found = evidence_of(observation.output.evidence, FinestLevel)
    return None if found is not None else "all tokens of its finest level exist, or it has none (model.sparse_finest)"


def finest_level_picture(observation: Observation, index: int) -> Picture:
    """The query map of the second-finest level, and the tokens of the finest that exist, over one image.

    data: strides of both levels, number and share of the existing tokens, mean query score of cells that touch an
    object and of the others (None where there are none), and how many objects have an existing token under their
    center. Raises ValueError where the output has no FinestLevel.
    """
    found = evidence_of(observation.output.evidence, FinestLevel)
    if found is None or observation.tokens is None:
        raise ValueError("expected a model with a sparse finest level (model.sparse_finest), got one without")
    heat = found.logits[index].float().sigmoid().cpu().numpy()
    exists = _existing(found, observation.tokens, index)
    boxes = true_boxes(observation, index)
    row = _row(observation, index, found, heat, exists, boxes)
    figure, (asked, given) = image_panels(observation, index, _titles(row, len(boxes)), "A finest level in part")
    drawn = lay_heat(asked, heat, found.canvas_hw, max(float(heat.max()), 1e-6))
    _lay_tokens(given, exists, found.canvas_hw)
    for axes in (asked, given):
        outline_boxes(axes, boxes)
    figure.set_figheight(figure.get_figheight() + COLOR_BAR_INCHES)
    words = "query score: 0 = nothing small is near, 1 = something is (the scale ends at this image's largest value)"
    figure.colorbar(drawn, ax=[asked, given], location="bottom", shrink=0.6, aspect=50, label=words)
    legend_below(
        figure, [("dot", CHOSEN_COLOR, "tokens that exist"), ("box", TRUTH_COLOR, f"true boxes ({len(boxes)})")]
    )
    return Picture(figure, row)


def _existing(found: FinestLevel, tokens: Tokens, index: int) -> npt.NDArray[np.bool_]:
    """The finest level's grid, True where a token exists."""
    grid = np.zeros(tokens.shapes[0], dtype=np.bool_)
    own = found.chosen.index[index][~found.chosen.padding[index]].cpu().numpy()
    grid.flat[own] = True
    return grid


def _row(
    observation: Observation,
    index: int,
    found: FinestLevel,
    heat: npt.NDArray[Any],
    exists: npt.NDArray[np.bool_],
    boxes_xyxy: npt.NDArray[Any],
) -> dict[str, Any]:
    shown = inside_image(heat, observation, index, found.canvas_hw)
    stride = found.canvas_hw[0] / heat.shape[0]
    near = touched_cells(boxes_xyxy, shown.shape, (stride, stride))
    fine = found.canvas_hw[0] / exists.shape[0]
    column, line = ((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 // fine).astype(int).T
    under = exists[line.clip(0, exists.shape[0] - 1), column.clip(0, exists.shape[1] - 1)]
    return {
        "stride_of_map": round(stride, 3),
        "stride": round(fine, 3),
        "tokens": int(exists.sum()),
        "share": float(found.share[index]),
        "mean_on_objects": mean_of(shown[near]),
        "mean_elsewhere": mean_of(shown[~near]),
        "with_token_at_center": int(under.sum()),
    }


def _titles(row: dict[str, Any], num_objects: int) -> tuple[str, str]:
    named = {"on objects": row["mean_on_objects"], "elsewhere": row["mean_elsewhere"]}
    means = ", ".join(f"{value:.2f} {where}" for where, value in named.items() if value is not None)
    return (
        f"asked, stride {row['stride_of_map']:g} px: mean {means}",
        f"given, stride {row['stride']:g} px: {how_many(row['tokens'], 'token')}, {row['share']:.1%}\n"
        f"{row['with_token_at_center']} of {how_many(num_objects, 'object')} with a token at the center",
    )


def _lay_tokens(axes: Any, exists: npt.NDArray[np.bool_], canvas_hw: tuple[int, int]) -> None:
    red, green, blue = (int(CHOSEN_COLOR[start : start + 2], 16) / 255 for start in (1, 3, 5))
    colors = np.zeros((*exists.shape, 4))
    colors[exists] = (red, green, blue, CHOSEN_OPACITY)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(colors, extent=(0, canvas_hw[1], canvas_hw[0], 0), interpolation="nearest")
    axes.set(xlim=limits[0], ylim=limits[1])
