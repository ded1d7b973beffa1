"""What the one-to-many rule of PaQ-DETR hands out, by decoder layer: how many queries an object gets, and which.

PaQ-DETR (CVPR 2026, arXiv 2603.06917) lets the quality of an object's best queries decide how many of them become
positives. Three figures tell whether that goes well: positives per object (1 all along means that quality never grows),
the share of claimed queries that several objects want, and the share of positives that hardly overlap their object,
which the rule prefers over confident poor boxes unless `iou_min` forbids it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture, how_many
from smidgen.assignment.quality_one_to_many import NOBODY, QualityOneToMany
from smidgen.structures import Predictions, Target

POOR_IOU = 0.1
ASKED_COLOR, POSITIVE_COLOR = "#B0B0B0", "#0072B2"
IOU_COLOR, POOR_COLOR, CONFLICT_COLOR = "#009E73", "#CC79A7", "#D55E00"


@dataclass(frozen=True, slots=True)
class AssignmentCounts:
    """Sums by decoder layer; those of several batches add up.

    images, objects: how many were counted. asked: queries that objects asked for. positives: queries that answer for an
    object. claimed: queries that were asked for. contested: those that several objects asked for. poor: positives with
    an IoU below 0.1. iou_sum: of all positives.
    """

    images: int
    objects: int
    asked: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    claimed: npt.NDArray[np.int64]
    contested: npt.NDArray[np.int64]
    poor: npt.NDArray[np.int64]
    iou_sum: npt.NDArray[np.float64]

    def __add__(self, other: AssignmentCounts) -> AssignmentCounts:
        if len(self.asked) != len(other.asked):
            raise ValueError(
                f"expected counts of as many decoder layers to add, got {len(self.asked)} and {len(other.asked)}"
            )
        return AssignmentCounts(
            self.images + other.images,
            self.objects + other.objects,
            self.asked + other.asked,
            self.positives + other.positives,
            self.claimed + other.claimed,
            self.contested + other.contested,
            self.poor + other.poor,
            self.iou_sum + other.iou_sum,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values by layer; None where there is nothing to divide by."""
        return {
            "images": self.images,
            "objects": self.objects,
            "layers": [self._layer_to_json(layer) for layer in range(len(self.asked))],
        }

    def _layer_to_json(self, layer: int) -> dict[str, Any]:
        positives = self.positives[layer]
        return {
            "layer": layer,
            "asked_per_object": _ratio(self.asked[layer], self.objects),
            "positives_per_object": _ratio(positives, self.objects),
            "contested": _ratio(self.contested[layer], self.claimed[layer]),
            "poor": _ratio(self.poor[layer], positives),
            "mean_iou": _ratio(self.iou_sum[layer], positives),
        }


def why_no_quality(observation: Observation) -> str | None:
    """What is missing to speak of quality, in words for people; None where nothing is."""
    if observation.quality is None:
        return "its layers are not supervised one to many by quality (paq_...)"
    return None if observation.output.auxiliary else "it has no decoder layer before the last one"


def count_assignments(observation: Observation) -> AssignmentCounts:
    """Count one batch. Raises ValueError where no layer is supervised by quality."""
    rule, reason = observation.quality, why_no_quality(observation)
    if rule is None or reason is not None:
        raise ValueError(f"expected a model with layers supervised one to many by quality, but {reason}")
    layers = [_layer_counts(rule, layer, observation.targets) for layer in observation.output.auxiliary]
    names = ("asked", "positives", "claimed", "contested", "poor", "iou_sum")
    by_layer: dict[str, Any] = {name: np.array([layer[name] for layer in layers]) for name in names}
    return AssignmentCounts(len(observation), sum(len(target) for target in observation.targets), **by_layer)


def quality_assignment_chart(counts: AssignmentCounts) -> Picture:
    """Positives per object by layer, and beside it conflicts, poor positives and the mean IoU.

    data: `AssignmentCounts.to_json()`.
    """
    figure = Figure(figsize=(12.0, 4.6), layout="constrained")
    figure.suptitle(
        f"Which queries answer for {how_many(counts.objects, 'object')} in {how_many(counts.images, 'image')} by the "
        "one-to-many rule of training",
        fontsize=13,
    )
    numbers, shares = figure.subplots(1, 2)
    data = counts.to_json()
    _draw_numbers(numbers, data["layers"])
    _draw_shares(shares, data["layers"])
    return Picture(figure, data)


def _layer_counts(rule: QualityOneToMany, predictions: Predictions, targets: tuple[Target, ...]) -> dict[str, float]:
    """Of one layer, by the names of AssignmentCounts."""
    decided = [(ownership, iou) for _, ownership, iou in rule.decisions(predictions, targets)]
    claims = np.concatenate([ownership.claims for ownership, _ in decided])
    overlap = np.concatenate([_of_owners(ownership.owner, iou) for ownership, iou in decided])
    return {
        "asked": sum(int(ownership.positives.sum()) for ownership, _ in decided),
        "positives": len(overlap),
        "claimed": int((claims > 0).sum()),
        "contested": int((claims > 1).sum()),
        "poor": int((overlap < POOR_IOU).sum()),
        "iou_sum": float(overlap.sum()),
    }


def _of_owners(owner: npt.NDArray[np.int64], iou: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    queries = np.flatnonzero(owner != NOBODY)
    overlap: npt.NDArray[np.float64] = iou[queries, owner[queries]]
    return overlap


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _draw_numbers(axes: Axes, layers: list[dict[str, Any]]) -> None:
    place = np.arange(1, len(layers) + 1)
    for shift, key, color, words in (
        (-0.2, "asked_per_object", ASKED_COLOR, "asked for"),
        (0.2, "positives_per_object", POSITIVE_COLOR, "answering (after conflicts)"),
    ):
        values = [layer[key] or 0.0 for layer in layers]
        for bar in axes.bar(place + shift, values, 0.38, color=color, label=words):
            axes.text(bar.get_x() + 0.19, bar.get_height(), f"{bar.get_height():.2f}", ha="center", va="bottom")
    axes.axhline(1, color="#888888", linestyle="--", linewidth=0.8)
    axes.set(xlabel="decoder layer", xticks=place, xlim=(0.4, len(layers) + 0.6), ylabel="queries per object")
    axes.set_title("how many queries an object gets (dashed: one to one)", fontsize=10)
    axes.margins(y=0.3)
    axes.legend(fontsize=9, loc="upper left")


def _draw_shares(axes: Axes, layers: list[dict[str, Any]]) -> None:
    place = np.arange(1, len(layers) + 1)
    for key, color, words in (
        ("mean_iou", IOU_COLOR, "mean IoU of the answering queries"),
        ("poor", POOR_COLOR, f"share of them with an IoU below {POOR_IOU:g}"),
        ("contested", CONFLICT_COLOR, "share of the queries that several objects asked for"),
    ):
        axes.plot(place, [np.nan if layer[key] is None else layer[key] for layer in layers], marker="o", color=color,
                  label=words)  # fmt: skip
    axes.set(xlabel="decoder layer", xticks=place, xlim=(0.4, len(layers) + 0.6), ylim=(-0.03, 1.03))
    axes.set_title("which ones they are", fontsize=10)
    axes.legend(fontsize=9)
