"""What Cross-DINO's decoder reads: the backbone's map, the encoder's, the gate between them and what comes of it.

"Cross-DINO", figure 6, shows one channel of each on the finest level, the gate with its contrast stretched. Which
channel the paper leaves open; here it is the one that varies most over the image in the coded map (a mean over channels
would show nothing of maps that a layer norm centers). The mean of the gate over all channels stands beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes

from smidgen.analysis.class_activation import centers_in, mean_or_none
from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import TRUTH_COLOR, Picture, image_panels, legend_below, outline_boxes, true_boxes
from smidgen.structures import Tokens, evidence_of
from smidgen.tokens.cross_coding import CrossGates

HEAT = "viridis"
SHOWN_PERCENTILES = (1.0, 99.0)  # the rest is cut, so that a few extreme cells do not gray out all others


def why_no_cross_gate(observation: Observation) -> str | None:
    """What is missing for the picture, in words for people; None where nothing is."""
    if evidence_of(observation.output.evidence, CrossGates) is None:
        return "it has no gate between backbone and encoder (cross_dino)"
    return None


def cross_gate_picture(observation: Observation, index: int, channel: int | None = None) -> Picture:
    """Backbone, encoder, gate and coded map of one image on the finest level, and the gate's mean over channels.

    channel: which one is shown; None = the one that varies most in the coded map. data: stride and channel; per panel
    what it shows, the limits of its colors, and the means of cells with their center in an object and of the others
    (None where there are none); per level the mean gate. Raises ValueError where the output has no CrossGates.
    """
    gates = evidence_of(observation.output.evidence, CrossGates)
    if gates is None:
        raise ValueError(
            "expected a model whose decoder reads cross-coded tokens (cross_dino), got one without CrossGates"
        )
    inside = ~_finest(gates.gate.padding[..., None], gates.gate, index)[0]
    coded = _finest(gates.coded.content, gates.coded, index)
    channel = _most_varied(coded, inside) if channel is None else channel
    gate = _finest(gates.gate.content, gates.gate, index)
    maps = {
        f"backbone's map, channel {channel}": _finest(gates.backbone.content, gates.backbone, index)[channel],
        f"encoder's map, channel {channel}": _finest(gates.encoder.content, gates.encoder, index)[channel],
        f"gate (the encoder's share), channel {channel}": gate[channel],
        "gate, mean of all channels": gate.mean(axis=0),
        f"coded map, channel {channel}": coded[channel],
    }
    boxes = true_boxes(observation, index)
    rows = [_panel_row(words, values, inside, boxes, _canvas_hw(observation)) for words, values in maps.items()]
    heading = f"What the decoder reads at stride {gates.gate.strides[0]} px, each map stretched by itself"
    figure, panels = image_panels(observation, index, [_title(row) for row in rows], heading)
    for axes, values, row in zip(panels, maps.values(), rows, strict=True):
        _cover(axes, np.where(inside, values, np.nan), _canvas_hw(observation), row)
        outline_boxes(axes, boxes)
    legend_below(figure, [("box", TRUTH_COLOR, f"true boxes ({len(boxes)})")])
    data = {"stride": gates.gate.strides[0], "channel": channel, "panels": rows}
    return Picture(figure, data | {"mean_gate_per_level": gates.mean_per_level()[index].tolist()})


def _finest(values: torch.Tensor, tokens: Tokens, index: int) -> npt.NDArray[Any]:
    """C x rows x columns of level 0 of one image."""
    level = values[index, : tokens.starts[1]].detach().cpu()
    level = level if level.dtype == torch.bool else level.float()
    shown: npt.NDArray[Any] = level.T.unflatten(1, tokens.shapes[0]).numpy()
    return shown


def _most_varied(coded: npt.NDArray[Any], inside: npt.NDArray[np.bool_]) -> int:
    return int(coded[:, inside].std(axis=1).argmax()) if inside.any() else 0


def _canvas_hw(observation: Observation) -> tuple[int, int]:
    height, width = observation.images.pixels.shape[2:]
    return height, width


def _panel_row(
    words: str,
    values: npt.NDArray[Any],
    inside: npt.NDArray[np.bool_],
    boxes_xyxy: npt.NDArray[Any],
    canvas_hw: tuple[int, int],
) -> dict[str, Any]:
    on_objects = centers_in(boxes_xyxy, values.shape, canvas_hw)
    low, high = np.percentile(values[inside], SHOWN_PERCENTILES) if inside.any() else (0.0, 0.0)
    return {
        "shows": words,
        "low": float(low),
        "high": float(high),
        "mean_on_objects": mean_or_none(values[inside & on_objects]),
        "mean_elsewhere": mean_or_none(values[inside & ~on_objects]),
    }


def _title(row: dict[str, Any]) -> str:
    named = {"on objects": row["mean_on_objects"], "elsewhere": row["mean_elsewhere"]}
    means = ", ".join(f"{value:.2f} {where}" for where, value in named.items() if value is not None)
    return f"{row['shows']}\nmean {means}\ndark {row['low']:.2f}, bright {row['high']:.2f}"


def _cover(axes: Axes, values: npt.NDArray[Any], canvas_hw: tuple[int, int], row: dict[str, Any]) -> None:
    """Opaque colors over the image; nothing over its padding."""
    height, width = canvas_hw
    limits = axes.get_xlim(), axes.get_ylim()
    extent = (0, width, height, 0)
    high = max(row["high"], row["low"] + 1e-6)
    axes.imshow(values, extent=extent, cmap=HEAT, vmin=row["low"], vmax=high, interpolation="nearest")
    axes.set(xlim=limits[0], ylim=limits[1])
