"""The numbers a protocol reports, read from scores and errors of the classes: over all classes, and class by class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.average_precision import ClassScores, class_scores, images_of_classes, within_image_limit
from smidgen.evaluation.engine import Engine, Matching
from smidgen.evaluation.localization_recall_precision import OptimalErrors, optimal_errors
from smidgen.evaluation.miss_rate import miss_rate_by_class
from smidgen.evaluation.protocol import Figure, Protocol

PARTS = {
    "olrp": "total",
    "olrp_localization": "localization",
    "olrp_false_positives": "false_positives",
    "olrp_false_negatives": "false_negatives",
}
PER_CLASS = ("average_precision", "average_recall", "olrp", "log_average_miss_rate")


@dataclass(frozen=True, slots=True)
class Figures:
    """Every figure of a protocol for one set of predictions, in the protocol's unit; -1 without such ground truth.

    by_class: without the figures that differ from others in what they are averaged over. images_by_class: how many
    images hold each class, what a mean over images counts.
    """

    overall: dict[str, float]
    by_class: dict[str, dict[str, float]]
    images_by_class: dict[str, int]


def compute_figures(truth: GroundTruth, results: Results, protocol: Protocol) -> Figures:
    """Judge what the protocol's ignore rules have left, and read its figures."""
    engine = Engine(truth, results)
    measured = _Measured(engine, protocol, class_scores(engine, protocol), {})
    images, labels = images_of_classes(truth).sum(axis=0), truth.labels
    overall, by_class = {}, {name: dict[str, float]() for name in labels}
    for name, figure in protocol.figures.items():
        values = measured.by_class(figure)
        weights = images if protocol.class_mean_of(figure) == "images" else np.ones_like(images)
        overall[name] = _in_unit(_mean(values, weights), protocol)
        if figure.measure in PER_CLASS and figure.class_mean is None:
            for row, value in zip(by_class.values(), values, strict=True):
                row[name] = _in_unit(float(value), protocol)
    return Figures(overall, by_class, dict(zip(labels, images.tolist(), strict=True)))


@dataclass(frozen=True, slots=True)
class _Measured:
    """Scores of the classes, and oLRP once it is asked for."""

    engine: Engine
    protocol: Protocol
    scores: ClassScores
    errors: dict[Figure, OptimalErrors]

    def by_class(self, figure: Figure) -> Float[NDArray[np.float64], " K"]:
        """The figure of every class as a fraction; NaN = nothing to measure."""
        if figure.measure == "absent":
            return np.full(len(self.engine.truth.category_ids), np.nan)
        if figure.measure in PARTS:
            return np.asarray(getattr(self._errors(figure), PARTS[figure.measure]))
        if figure.measure == "log_average_miss_rate":
            results, matching = self._matched(figure)
            return miss_rate_by_class(matching, results)
        return self._score(figure)

    def _score(self, figure: Figure) -> NDArray[np.float64]:
        protocol = self.protocol
        values = self.scores.precision if figure.measure == "average_precision" else self.scores.recall
        area = list(protocol.areas).index(protocol.area_of(figure))
        chosen = values[..., area, protocol.detection_limits.index(protocol.limit_of(figure))]
        mean: NDArray[np.float64] = chosen.mean(axis=0)
        return mean if figure.iou is None else chosen[protocol.threshold_index(figure.iou)]

    def _errors(self, figure: Figure) -> OptimalErrors:
        protocol = self.protocol
        area, limit = protocol.area_of(figure), protocol.limit_of(figure)
        place = replace(figure, measure="olrp", area=area, limit=limit, class_mean=None)
        if place not in self.errors:
            results, matching = self._matched(place)
            threshold = protocol.thresholds[protocol.threshold_index(place.iou or 0.0)]
            self.errors[place] = optimal_errors(self.engine.truth, results, matching, float(threshold))
        return self.errors[place]

    def _matched(self, figure: Figure) -> tuple[Results, Matching]:
        """Who matched whom at the figure's threshold, and the results that the matching speaks of."""
        protocol, limit = self.protocol, self.protocol.limit_of(figure)
        thresholds = protocol.thresholds[[protocol.threshold_index(figure.iou or 0.0)]]
        engine = self.engine
        if protocol.limit_per == "image":
            engine = Engine(engine.truth, within_image_limit(engine.results, limit, protocol))
        area = protocol.areas[protocol.area_of(figure)]
        return engine.results, engine.match(thresholds=thresholds, area=area, limit=limit)


def _mean(values: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    present = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[present], weights=weights[present])) if present.any() else np.nan


def _in_unit(fraction: float, protocol: Protocol) -> float:
    if np.isnan(fraction):
        return -1.0
    return 100 * fraction if protocol.unit == "per_cent" else fraction
