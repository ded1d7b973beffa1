"""Which patterns the queries are mixed from: overall, in queries at work, and by the class that they found.

PaQ-DETR (CVPR 2026, arXiv 2603.06917), figure 5: the weights of queries with a true detection (IoU above 0.7, score
above 0.5, the right class), averaged by class, show what classes share. A pattern is inactive if fewer than 1 % of all
query rows give it a weight above 0.1 (the development code of the first author); effective patterns are the exponential
of the entropy of the mean weights.
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
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture, how_many
from smidgen.analysis.query_activation import active_by_score, entropy, gini, scores_of
from smidgen.boxes import cxcywh_to_xyxy, pairwise_iou
from smidgen.queries.pattern_content import PatternWeights
from smidgen.structures import Target, evidence_of

TRUE_IOU, TRUE_SCORE = 0.7, 0.5
ACTIVE_WEIGHT, ACTIVE_ROWS = 0.1, 0.01
MOST_NAMED_CLASSES = 40
ALL_COLOR, WORKING_COLOR, INACTIVE_COLOR = "#0072B2", "#D55E00", "#B0B0B0"


@dataclass(frozen=True, slots=True)
class PatternUsage:
    """Sums of the weights of m patterns; those of several batches add up.

    images, rows: how many images and query rows (without padding) were counted. weight: sum over all rows. heavy: rows
    in which the pattern's weight is above 0.1. working: sum over the rows with a class score above 0.3. true_weight,
    true_rows: by class, sum over the rows with a true detection of it, and their number.
    """

    images: int
    rows: int
    weight: npt.NDArray[np.float64]
    heavy: npt.NDArray[np.int64]
    working: npt.NDArray[np.float64]
    true_weight: npt.NDArray[np.float64]
    true_rows: npt.NDArray[np.int64]

    @property
    def usage(self) -> npt.NDArray[np.float64]:
        """Mean weight of each pattern; they sum to 1."""
        return self.weight / max(self.rows, 1)

    @property
    def effective(self) -> float:
        """How many equally used patterns would have the entropy of `usage`."""
        return float(np.exp(entropy(self.weight)))

    @property
    def inactive(self) -> npt.NDArray[np.bool_]:
        """Patterns that hardly any row gives a weight."""
        return self.heavy < ACTIVE_ROWS * self.rows

    @property
    def by_class(self) -> npt.NDArray[np.float64]:
        """K x m, mean weights of the rows with a true detection of the class; zeros where there is none."""
        mean: npt.NDArray[np.float64] = self.true_weight / np.maximum(self.true_rows, 1)[:, None]
        return mean

    @property
    def sharing(self) -> npt.NDArray[np.float64]:
        """K x K, cosine between the rows of `by_class`; zeros where there is none."""
        length = np.linalg.norm(self.by_class, axis=1, keepdims=True)
        directions = self.by_class / np.maximum(length, 1e-12)
        cosine: npt.NDArray[np.float64] = directions @ directions.T
        return cosine

    def __add__(self, other: PatternUsage) -> PatternUsage:
        if self.true_weight.shape != other.true_weight.shape:
            raise ValueError(
                "expected usage of the same classes and patterns to add, got "
                f"{self.true_weight.shape} and {other.true_weight.shape}"
            )
        return PatternUsage(
            self.images + other.images,
            self.rows + other.rows,
            self.weight + other.weight,
            self.heavy + other.heavy,
            self.working + other.working,
            self.true_weight + other.true_weight,
            self.true_rows + other.true_rows,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; by_class has one entry per class with a true detection."""
        shown = np.flatnonzero(self.true_rows).tolist()
        return {
            "images": self.images,
            "patterns": len(self.weight),
            "effective_patterns": self.effective,
            "inactive_patterns": int(self.inactive.sum()),
            "gini": gini(self.weight),
            "gini_of_active_queries": gini(self.working),
            "usage": self.usage.tolist(),
            "by_class": [
                {"class": index, "true_detections": int(self.true_rows[index]), **self._class_to_json(index)}
                for index in shown
            ],
            "mean_sharing": _mean_off_diagonal(self.sharing[shown][:, shown]),
        }

    def _class_to_json(self, index: int) -> dict[str, Any]:
        weights = self.by_class[index]
        return {"effective_patterns": float(np.exp(entropy(weights))), "usage": weights.tolist()}


def why_no_patterns(observation: Observation) -> str | None:
    """What is missing to speak of patterns, in words for people; None where nothing is."""
    if evidence_of(observation.output.evidence, PatternWeights) is None:
        return "its queries are not mixed from patterns (paq_...)"
    return None


def weights_of(observation: Observation) -> Float[Tensor, "B Q m"]:
    """The weights of the query rows that were asked. Raises ValueError where the output has no PatternWeights."""
    evidence = evidence_of(observation.output.evidence, PatternWeights)
    if evidence is None:
        raise ValueError("expected a model that mixes patterns (paq_...), got one without PatternWeights")
    return evidence.weights[:, : observation.output.final.logits.shape[1]].detach()


def existing_rows(observation: Observation) -> Bool[Tensor, "B Q"]:
    """Query rows that are no padding."""
    final = observation.output.final
    return torch.ones_like(final.logits[..., 0], dtype=torch.bool) if final.padding is None else ~final.padding


def count_pattern_usage(observation: Observation) -> PatternUsage:
    """Count one batch. Raises ValueError where the output has no PatternWeights."""
    existing, scores = existing_rows(observation), scores_of(observation.output.final)
    weights = weights_of(observation).double() * existing[..., None]
    working = active_by_score(scores)
    found = true_detections(observation).to(weights.dtype)
    return PatternUsage(
        images=len(observation),
        rows=int(existing.sum()),
        weight=_numbers(weights.sum(dim=(0, 1))),
        heavy=_numbers((weights > ACTIVE_WEIGHT).sum(dim=(0, 1))),
        working=_numbers((weights * working[..., None]).sum(dim=(0, 1))),
        true_weight=_numbers(torch.einsum("bqk,bqm->km", found, weights)),
        true_rows=_numbers(found.sum(dim=(0, 1)).long()),
    )


def true_detections(observation: Observation) -> Bool[Tensor, "B Q K"]:
    """Which row is sure of which class (score above 0.5) and overlaps one of its objects (IoU above 0.7)."""
    scores = scores_of(observation.output.final)
    boxes = cxcywh_to_xyxy(observation.output.final.boxes_cxcywh)
    overlaps = [
        _overlaps_by_class(boxes[image], target, scores.shape[-1]) for image, target in enumerate(observation.targets)
    ]
    return torch.stack(overlaps) & (scores > TRUE_SCORE)


def pattern_usage_picture(usage: PatternUsage, class_names: Sequence[str] = ()) -> Picture:
    """Bars of the usage, and where there are true detections the heat map by class and what classes share.

    class_names: by class index, for the labels. data: `PatternUsage.to_json()`.
    """
    classes = np.flatnonzero(usage.true_rows).tolist()
    names = [class_names[index] if index < len(class_names) else f"class {index}" for index in classes]
    map_height = min(max(2.2, 0.34 * len(classes)), 11.0)
    figure = Figure(figsize=(13.0, 4.4 + (map_height + 1.2 if len(classes) else 0)), layout="constrained")
    figure.suptitle(_heading(usage), fontsize=13)
    order = np.argsort(-usage.usage, kind="stable")
    if not len(classes):
        _draw_usage(figure.subplots(), usage, order)
        return Picture(figure, usage.to_json())
    parts: Any = figure.subfigures(2, 1, height_ratios=(3.6, map_height + 1.2))
    bars, maps = parts
    _draw_usage(bars.subplots(), usage, order)
    heat, sharing = maps.subplots(1, 2, width_ratios=(2.2, 1))
    _draw_heat(heat, usage.by_class[classes][:, order], names, usage.true_rows[classes])
    _draw_sharing(sharing, usage.sharing[classes][:, classes], names)
    return Picture(figure, usage.to_json())


def _numbers(values: Tensor) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = values.cpu().numpy()
    return numbers


def _overlaps_by_class(boxes_xyxy: Float[Tensor, "Q 4"], target: Target, classes: int) -> Bool[Tensor, "Q K"]:
    objects = cxcywh_to_xyxy(target.boxes_cxcywh.to(boxes_xyxy.dtype))
    overlapping = (pairwise_iou(boxes_xyxy, objects) > TRUE_IOU).float()
    return overlapping @ F.one_hot(target.labels, classes).float() > 0


def _mean_off_diagonal(cosine: npt.NDArray[np.float64]) -> float | None:
    """None with fewer than two classes."""
    number = len(cosine)
    return float((cosine.sum() - np.trace(cosine)) / (number * (number - 1))) if number > 1 else None


def _heading(usage: PatternUsage) -> str:
    patterns = how_many(len(usage.weight), "pattern")
    return (
        f"How {patterns} are mixed into the queries of {how_many(usage.images, 'image')}: "
        f"{usage.effective:.1f} effective, {int(usage.inactive.sum())} inactive"
    )


def _draw_usage(axes: Axes, usage: PatternUsage, order: npt.NDArray[np.int64]) -> None:
    """Most used first; gray patterns are inactive. The line is the usage by queries at work."""
    place = np.arange(1, len(order) + 1)
    colors = np.where(usage.inactive[order], INACTIVE_COLOR, ALL_COLOR)
    axes.bar(place, 100 * usage.usage[order], 0.9, color=list(colors), label="all queries (gray: inactive)")
    if usage.working.any():
        share = 100 * usage.working[order] / usage.working.sum()
        axes.step(place, share, where="mid", color=WORKING_COLOR, linewidth=1.2, label="queries with a score above 0.3")
    even = 100 / len(order)
    axes.axhline(even, color="#888888", linestyle="--", linewidth=0.8, label="all patterns alike")
    axes.set(xlim=(0, len(order) + 1), ylabel="mean weight, in per cent", xlabel="patterns, most used first")
    axes.set_title(f"Gini of the usage: {gini(usage.weight):.2f}", fontsize=10)
    axes.legend(fontsize=9)


def _draw_heat(axes: Axes, weights: npt.NDArray[np.float64], names: Sequence[str], rows: npt.NDArray[Any]) -> None:
    extent = (0.5, weights.shape[1] + 0.5, len(weights) - 0.5, -0.5)
    heat = axes.imshow(100 * weights, cmap="viridis", aspect="auto", interpolation="nearest", vmin=0, extent=extent)
    labels = [f"{name} ({number})" for name, number in zip(names, rows.tolist(), strict=True)]
    _name_classes(axes, labels)
    axes.set(xlabel="patterns, most used first")
    axes.set_title("mean weight by class of true detections (how many), in per cent", fontsize=10)
    axes.figure.colorbar(heat, ax=axes, location="right", shrink=0.9)


def _draw_sharing(axes: Axes, cosine: npt.NDArray[np.float64], names: Sequence[str]) -> None:
    heat = axes.imshow(cosine, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    _name_classes(axes, names)
    if len(names) <= 8:
        for (row, column), value in np.ndenumerate(cosine):
            color = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks([])
    axes.set_title("what classes share: cosine of their weights", fontsize=10)
    axes.figure.colorbar(heat, ax=axes, location="right", shrink=0.9)


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    step = -(-len(names) // MOST_NAMED_CLASSES)
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=8 if len(names) > 12 else 10)
