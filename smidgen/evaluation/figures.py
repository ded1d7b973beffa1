"""The numbers a protocol reports, read from curves and errors: over all classes, and class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.engine import Curves, judge, match
from smidgen.evaluation.localization_recall_precision import OptimalErrors, optimal_errors
from smidgen.evaluation.protocol import Figure, Protocol


@dataclass(frozen=True, slots=True)
class Figures:
    """Every figure of a protocol for one set of predictions; fractions, -1 where there is no such ground truth."""

    overall: dict[str, float]
    by_class: dict[str, dict[str, float]]


def compute_figures(truth: GroundTruth, results: Results, protocol: Protocol) -> Figures:
    """Run the engine once (once more for oLRP) and read the protocol's figures."""
    curves = judge(
        truth,
        results,
        thresholds=protocol.thresholds,
        areas=list(protocol.areas.values()),
        limits=protocol.detection_limits,
    )
    errors: dict[Figure, OptimalErrors] = {}
    overall, by_class = {}, {name: dict[str, float]() for name in class_labels(truth)}
    for name, figure in protocol.figures.items():
        values = _values_by_class(truth, results, protocol, figure, curves, errors)
        overall[name] = _mean(values)
        if figure.measure in ("average_precision", "average_recall", "olrp"):
            for row, value in zip(by_class.values(), values, strict=True):
                row[name] = _mean(value)
    return Figures(overall, by_class)


def class_labels(truth: GroundTruth) -> list[str]:
    """Class names, with the id where a name is used twice."""
    return [
        name if truth.names.count(name) == 1 else f"{name} ({index})"
        for name, index in zip(truth.names, truth.category_ids, strict=True)
    ]


def _values_by_class(
    truth: GroundTruth,
    results: Results,
    protocol: Protocol,
    figure: Figure,
    curves: Curves,
    errors: dict[Figure, OptimalErrors],
) -> NDArray[np.float64]:
    """One row per class; -1 or NaN = nothing to measure."""
    if figure.measure == "absent":
        return np.full((len(truth.category_ids), 1), -1.0)
    if figure.measure in ("average_precision", "average_recall"):
        return _from_curves(protocol, figure, curves)
    place = Figure(measure="olrp", iou=figure.iou, area=protocol.area_of(figure), limit=protocol.limit_of(figure))
    if place not in errors:
        errors[place] = _errors(truth, results, protocol, place)
    part = {
        "olrp": errors[place].total,
        "olrp_localization": errors[place].localization,
        "olrp_false_positives": errors[place].false_positives,
        "olrp_false_negatives": errors[place].false_negatives,
    }[figure.measure]
    return part[:, None]


def _from_curves(protocol: Protocol, figure: Figure, curves: Curves) -> NDArray[np.float64]:
    area = list(protocol.areas).index(protocol.area_of(figure))
    limit = protocol.detection_limits.index(protocol.limit_of(figure))
    rows = slice(None) if figure.iou is None else [protocol.threshold_index(figure.iou)]
    source = curves.precision if figure.measure == "average_precision" else curves.recall[:, None]
    chosen = source[rows, :, :, area, limit]
    return np.moveaxis(chosen, 2, 0).reshape(chosen.shape[2], chosen.shape[0] * chosen.shape[1])


def _errors(truth: GroundTruth, results: Results, protocol: Protocol, figure: Figure) -> OptimalErrors:
    threshold = protocol.thresholds[protocol.threshold_index(figure.iou or 0.0)]
    matching = match(
        truth,
        results,
        thresholds=np.array([threshold]),
        area=protocol.areas[protocol.area_of(figure)],
        limit=protocol.limit_of(figure),
    )
    return optimal_errors(truth, results, matching, float(threshold))


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values) & (values > -1)]
    return float(present.mean()) if present.size else -1.0
