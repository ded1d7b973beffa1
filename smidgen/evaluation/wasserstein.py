"""AP when likeness is the normalized Wasserstein distance instead of IoU, at the same thresholds, size by size.

Wang et al., "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", 2021. Where an object's AP is low
under IoU and high under this distance, its place is known to a few pixels: it was seen, and not boxed well. Numbers of
the two columns are no scale of each other: C decides how strict the second one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.bootstrap import average_precisions
from smidgen.evaluation.engine import Matching
from smidgen.evaluation.greedy_matching import match_by, within_limit
from smidgen.evaluation.overlap import AITOD_CONSTANT_PX, Measure, intersection_over_union, normalized_wasserstein
from smidgen.evaluation.overlap_pairs import overlap_pairs
from smidgen.evaluation.protocol import Protocol


@dataclass(frozen=True, slots=True)
class LikenessBySize:
    """AP of one size bin under both measures: mean over the protocol's thresholds, and at the lowest; -1 without
    objects."""

    size: str
    objects: int
    iou: float
    iou_lowest: float
    wasserstein: float
    wasserstein_lowest: float


@dataclass(frozen=True, slots=True)
class WassersteinComparison:
    """AP under IoU and under the normalized Wasserstein distance with constant C. lowest: the lowest threshold."""

    constant_px: float
    lowest: float
    by_size: tuple[LikenessBySize, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "constant_px": self.constant_px,
            "lowest_threshold": self.lowest,
            "by_size": [
                {
                    "size": row.size,
                    "objects": row.objects,
                    "AP_iou": row.iou,
                    "AP_iou_lowest": row.iou_lowest,
                    "AP_wasserstein": row.wasserstein,
                    "AP_wasserstein_lowest": row.wasserstein_lowest,
                }
                for row in self.by_size
            ],
        }


def wasserstein_comparison(
    truth: GroundTruth, results: Results, protocol: Protocol, *, constant_px: float = AITOD_CONSTANT_PX
) -> WassersteinComparison:
    """Judge the same detections by both measures, at the protocol's thresholds, size bins and largest limit."""
    iou = precision_by_size(truth, results, protocol, intersection_over_union)
    wasserstein = precision_by_size(truth, results, protocol, normalized_wasserstein(constant_px))
    rows = (
        LikenessBySize(size, truth.objects_in(bounds), *_mean_and_first(iou[size]), *_mean_and_first(wasserstein[size]))
        for size, bounds in protocol.areas.items()
    )
    return WassersteinComparison(constant_px, float(protocol.thresholds[0]), tuple(rows))


def precision_by_size(
    truth: GroundTruth, results: Results, protocol: Protocol, measure: Measure
) -> dict[str, NDArray[np.float64]]:
    """For every size bin AP by threshold (rows) and class, under any measure; NaN without objects of the class."""
    limit = protocol.detection_limits[-1]
    rows = within_limit(results, limit)
    pairs = overlap_pairs(truth, results, rows, measure=measure, least=float(min(protocol.thresholds[0], 0.999)))
    values = {}
    for size, area in protocol.areas.items():
        matching = match_by(
            truth, results, measure, thresholds=protocol.thresholds, area=area, limit=limit, pairs=pairs
        )
        values[size] = _precisions(matching, results, len(truth.image_ids))
    return values


def _precisions(matching: Matching, results: Results, images: int) -> NDArray[np.float64]:
    return average_precisions(matching, results, np.ones((1, images), np.int64))[0]


def _mean_and_first(values: NDArray[np.float64]) -> tuple[float, float]:
    """Over classes with objects: the mean over all thresholds, and at the first."""
    present = values[:, ~np.isnan(values).any(axis=0)]
    return (float(present.mean()), float(present[0].mean())) if present.size else (-1.0, -1.0)
