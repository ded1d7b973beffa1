"""Precision against recall as the score threshold falls, class by class and size by size, and where F1 is best.

COCO's average precision is the mean of such a curve (made falling, read at 101 recalls); the threshold with the best F1
is the one to run a detector with when nothing else is known about the costs of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.engine import Matching
from smidgen.evaluation.precision_curve import RECALL_LEVELS, falling_precision


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What detections of at least `score` achieve together."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One class in one size bin. precision: at recalls 0, 0.01, ... 1. best: None without a true positive."""

    label: str
    size: str
    objects: int
    detections: int
    precision: Float[NDArray[np.float64], 101]
    best: OperatingPoint | None

    @property
    def average_precision(self) -> float:
        """The mean of the curve; -1 without objects."""
        return float(self.precision.mean()) if self.objects else -1.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the curve's points."""
        return {
            "class": self.label,
            "size": self.size,
            "objects": self.objects,
            "detections": self.detections,
            "AP": self.average_precision,
            "best_f1": None if self.best is None else asdict(self.best),
        }


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Curves at one IoU threshold. by_class: every class in every size bin, bin by bin. pooled: all classes' detections
    in one list, per size bin: one score threshold for all."""

    iou_threshold: float
    by_class: tuple[Curve, ...]
    pooled: tuple[Curve, ...]

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the size bins."""
        return tuple(curve.size for curve in self.pooled)

    def of_size(self, size: str) -> tuple[Curve, ...]:
        """The curves of all classes that have objects in the bin."""
        return tuple(curve for curve in self.by_class if curve.size == size and curve.objects)

    def mean(self, size: str) -> Float[NDArray[np.float64], 101]:
        """Mean over classes with objects, whose own mean is the AP of the bin; NaN without objects."""
        curves = self.of_size(size)
        mean = np.mean([curve.precision for curve in curves], axis=0) if curves else np.full(len(RECALL_LEVELS), np.nan)
        return np.asarray(mean)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the points of the mean curves only."""
        means = {size: self.mean(size).tolist() for size in self.sizes if self.of_size(size)}
        return {
            "iou_threshold": self.iou_threshold,
            "recall": [round(level, 2) for level in RECALL_LEVELS.tolist()],
            "mean_precision": {size: [round(value, 6) for value in values] for size, values in means.items()},
            "pooled": [curve.to_json() for curve in self.pooled],
            "by_class": [curve.to_json() for curve in self.by_class if curve.objects],
        }


def precision_recall(
    truth: GroundTruth, results: Results, matchings: Mapping[str, Matching], iou_threshold: float
) -> PrecisionRecall:
    """Curves from one matching per size bin, each at this IoU threshold alone."""
    by_class: list[Curve] = []
    pooled: list[Curve] = []
    for size, matching in matchings.items():
        category, scores = results.category[matching.detection], results.scores[matching.detection]
        counted, hit = matching.counted[0], matching.hit[0]
        objects = matching.objects.sum(axis=0)
        for index, label in enumerate(truth.labels):
            rows = slice(*np.searchsorted(category, [index, index + 1]))
            of_class = counted[rows]
            by_class.append(_curve(label, size, int(objects[index]), scores[rows][of_class], hit[rows][of_class]))
        order = np.argsort(-scores[counted], kind="stable")
        pooled.append(_curve("all classes", size, int(objects.sum()), scores[counted][order], hit[counted][order]))
    return PrecisionRecall(iou_threshold, tuple(by_class), tuple(pooled))


def best_operating_point(
    scores: Float[NDArray[np.float64], " D"], hit: Bool[NDArray[np.bool_], " D"], objects: int
) -> OperatingPoint | None:
    """The score threshold with the best F1 (of equals the highest); None where nothing is right.

    scores: falling. Detections of equal score come together: no threshold can tell them apart.
    """
    if not hit.any() or not objects:
        return None
    last_of_score = np.append(np.diff(scores) != 0, True)
    found, kept = np.cumsum(hit), np.arange(1, len(hit) + 1)
    f1 = np.where(last_of_score, 2 * found / (kept + objects), -1.0)
    best = int(np.argmax(f1))
    return OperatingPoint(
        float(scores[best]), float(found[best] / kept[best]), float(found[best] / objects), float(f1[best])
    )


def _curve(label: str, size: str, objects: int, scores: NDArray[np.float64], hit: NDArray[np.bool_]) -> Curve:
    precision = falling_precision(hit, objects)
    return Curve(label, size, objects, len(hit), precision, best_operating_point(scores, hit, objects))
