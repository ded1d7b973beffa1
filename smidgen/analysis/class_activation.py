"""Where the shallow levels of the encoder already show a class: its weight in the class head dot every cell's feature.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, equation 2, on the fine levels of a
DETR's encoder as in Cross-DINO, figure 9, which describes its maps loosely. Here: the class head that reads tokens (the
proposals' one, after their projection) where there is one, else the last decoder layer's on the tokens as they are; no
bias; negative values are cut, and each map of a class and level is stretched to [0, 1] over the cells of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from torch import Tensor, nn

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import TRUTH_COLOR, Picture, image_panels, legend_below, outline_boxes
from smidgen.boxes import full_precision
from smidgen.evaluation.model_state import device_of
from smidgen.structures import ImageBatch, Tokens

SHALLOW_LEVELS = 2
MOST_CLASSES = 3
HEAT = "inferno"
OBJECT_ONLY = "object"
STAGES = ("preprocessing", "backbone", "neck", "flatten", "encoder", "decoder")


@dataclass(frozen=True, slots=True)
class ClassActivation:
    """Maps of one batch, finest level first.

    maps: in [0, 1], by level, over the padded canvas (0 in the padding). largest: the value that became 1, by level, in
    units of logits. inside: by level, the cells that show the image. names: of the K classes.
    """

    maps: tuple[Float[Tensor, "B K _ _"], ...]
    largest: tuple[Float[Tensor, "B K"], ...]
    inside: tuple[Bool[Tensor, "B _ _"], ...]
    strides: tuple[int, ...]
    canvas_hw: tuple[int, int]
    names: tuple[str, ...]


def why_no_class_activation(model: nn.Module) -> str | None:
    """What the model lacks for such maps, in words for people; None where it lacks nothing."""
    missing = [stage for stage in STAGES if not hasattr(model, stage)]
    if missing:
        return f"it has no stage named {', '.join(missing)}"
    return None if isinstance(_class_head(model), nn.Linear) else "its class head is not one linear layer"


def class_activation(model: nn.Module, images: ImageBatch, levels: int = SHALLOW_LEVELS) -> ClassActivation:
    """Run the encoder of a DETR, as it stands, on images and read the maps of its `levels` finest levels.

    Raises ValueError where the model has no such stages or class head.
    """
    reason = why_no_class_activation(model)
    if reason is not None:
        raise ValueError(f"expected a DETR whose class head reads tokens, but {reason}")
    tokens = _encoded(model, images)
    features, valid = _features(model, tokens)
    head: Any = _class_head(model)
    names = _names(model)
    raw = full_precision(features) @ full_precision(head.weight[: len(names)]).T
    found = [_stretched(_level(raw, tokens, level), _level(valid, tokens, level)) for level in range(levels)]
    return ClassActivation(
        maps=tuple(maps for maps, _ in found),
        largest=tuple(largest for _, largest in found),
        inside=tuple(_level(~tokens.padding, tokens, level) for level in range(levels)),
        strides=tuple(tokens.strides[:levels]),
        canvas_hw=(images.pixels.shape[2], images.pixels.shape[3]),
        names=names,
    )


def class_activation_picture(observation: Observation, index: int, activation: ClassActivation) -> Picture:
    """Maps of one image: a row of panels per level, a panel per class, of the classes with most objects.

    data: per panel its stride, class, largest logit, and the mean of cells inside objects of the class and elsewhere
    (None where there are none).
    """
    chosen = _shown_classes(observation, index, activation)
    panels = [(level, row) for level in range(len(activation.maps)) for row in chosen]
    rows = [_panel_row(observation, index, activation, level, row) for level, row in panels]
    heading = "Class activation: where the encoder's fine levels already show a class"
    figure, axes = image_panels(observation, index, [_panel_title(row) for row in rows], heading)
    for one, (level, row) in zip(axes, panels, strict=True):
        _lay_over(one, activation.maps[level][index, row].cpu().numpy(), activation.canvas_hw)
        outline_boxes(one, _boxes_of(observation, index, activation, row))
    legend_below(figure, [("box", TRUTH_COLOR, "true boxes of the class"), ("dot", "#FCA50A", "strongest cells")])
    return Picture(figure, {"panels": rows})


def centers_in(
    boxes_xyxy: npt.NDArray[Any], shape: tuple[int, ...], canvas_hw: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Cells of a map of the canvas whose center lies in a box."""
    y = (np.arange(shape[0])[:, None] + 0.5) * canvas_hw[0] / shape[0]
    x = (np.arange(shape[1])[:, None] + 0.5) * canvas_hw[1] / shape[1]
    x0, y0, x1, y1 = boxes_xyxy.astype(float).reshape(-1, 4).T
    rows, columns = (y >= y0) & (y <= y1), (x >= x0) & (x <= x1)
    inside: npt.NDArray[np.bool_] = (rows.astype(np.float32) @ columns.T.astype(np.float32)) > 0
    return inside


def mean_or_none(values: npt.NDArray[Any]) -> float | None:
    """None where there is nothing."""
    return float(values.mean()) if values.size else None


def _panel_title(row: dict[str, Any]) -> str:
    named = {"on its objects": row["mean_on_objects"], "elsewhere": row["mean_elsewhere"]}
    means = ", ".join(f"{value:.2f} {where}" for where, value in named.items() if value is not None)
    return f"{row['class']}, stride {row['stride']} px\nmean {means}"


def _lay_over(axes: Axes, values: npt.NDArray[Any], canvas_hw: tuple[int, int]) -> None:
    """Heat whose opacity grows with the activation, so that the image shows where there is none."""
    limits = axes.get_xlim(), axes.get_ylim()
    extent = (0, canvas_hw[1], canvas_hw[0], 0)
    opacity = 0.1 + 0.75 * values
    axes.imshow(values, extent=extent, cmap=HEAT, vmin=0, vmax=1, alpha=opacity, interpolation="nearest")
    axes.set(xlim=limits[0], ylim=limits[1])


def _encoded(model: Any, images: ImageBatch) -> Tokens:
    """The tokens that are proposed from: the encoder's own where a system decodes over others."""
    images = images.to(device_of(model)).normalized(model.preprocessing)
    pyramid = model.neck(model.backbone(images))
    tokens: Tokens = model.encoder(model.flatten(pyramid), pyramid).proposal_tokens
    return tokens


def _features(model: Any, tokens: Tokens) -> tuple[Float[Tensor, "B N C"], Bool[Tensor, "B N"]]:
    if model.proposals is None:
        return tokens.content, ~tokens.padding
    proposals = model.proposals(tokens)
    return proposals.content, proposals.valid


def _class_head(model: Any) -> nn.Module | None:
    """The head that reads tokens, or else the last decoder layer's; None where neither is found."""
    if getattr(model, "proposals", None) is not None:
        return getattr(model.proposals, "class_head", None)
    refinement = getattr(model.decoder, "refinement", None)
    heads: Sequence[nn.Module] | None = getattr(refinement, "class_heads", None)
    return getattr(refinement, "class_head", None) if heads is None else heads[-1]


def _names(model: Any) -> tuple[str, ...]:
    """Of the head's classes. Proposals of the two-stage Deformable DETR only tell objects from background, on the
    first.
    """
    only_objects = model.proposals is not None and getattr(model.selection, "score", "max") == "first"
    return (OBJECT_ONLY,) if only_objects else tuple(model.classes.names)


def _level(values: Tensor, tokens: Tokens, level: int) -> Tensor:
    """The level's part of B x N (x K) values as B (x K) x rows x columns."""
    part: Tensor = values[:, tokens.starts[level] : tokens.starts[level + 1]].unflatten(1, tokens.shapes[level])
    return part.movedim(3, 1) if part.ndim == 4 else part


def _stretched(
    raw: Float[Tensor, "B K h w"], valid: Bool[Tensor, "B h w"]
) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K"]]:
    """ReLU, then min-max over valid cells; maps without a positive cell are 0."""
    valid = valid[:, None]
    positive = raw.clamp(min=0)
    low = positive.masked_fill(~valid, torch.inf).amin(dim=(2, 3), keepdim=True)
    high = positive.masked_fill(~valid, -torch.inf).amax(dim=(2, 3), keepdim=True)
    stretched = (positive - low) / (high - low).clamp(min=1e-12)
    return stretched.masked_fill(~valid, 0.0), high.clamp(min=0)[..., 0, 0]


def _shown_classes(observation: Observation, index: int, activation: ClassActivation) -> list[int]:
    """The classes with most objects; in an image without objects the one with the strongest cell."""
    if len(activation.names) == 1:
        return [0]
    labels = observation.targets[index].labels
    if not len(labels):
        return [int(activation.largest[0][index].argmax())]
    numbers = torch.bincount(labels, minlength=len(activation.names))
    ordered = numbers.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist()
    return [row for row in ordered if numbers[row] > 0]


def _boxes_of(observation: Observation, index: int, activation: ClassActivation, row: int) -> npt.NDArray[Any]:
    target = observation.targets[index]
    boxes = target.boxes_xyxy if activation.names == (OBJECT_ONLY,) else target.boxes_xyxy[target.labels == row]
    pixels: npt.NDArray[Any] = boxes.cpu().numpy()
    return pixels


def _panel_row(
    observation: Observation, index: int, activation: ClassActivation, level: int, row: int
) -> dict[str, Any]:
    values = activation.maps[level][index, row].cpu().numpy()
    inside = activation.inside[level][index].cpu().numpy()
    boxes = _boxes_of(observation, index, activation, row)
    on_objects = centers_in(boxes, values.shape, activation.canvas_hw)
    return {
        "stride": activation.strides[level],
        "class": activation.names[row],
        "largest": float(activation.largest[level][index, row]),
        "mean_on_objects": mean_or_none(values[inside & on_objects]),
        "mean_elsewhere": mean_or_none(values[inside & ~on_objects]),
    }
