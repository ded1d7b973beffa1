"""AP when likeness is the normalized Wasserstein distance instead of IoU, at the same thresholds, size by size.

Wang et al., "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", 2021. Where an object's AP is low
under IoU and high under this distance, its place is known to a few pixels: it was seen, and not boxed well. Numbers of
the two columns are no scale of each other: C decides how strict the second one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.average_precision import precision_by_size
from smidgen.evaluation.bootstrap import average_precisions
from smidgen.evaluation.greedy_matching import match_contest, open_contest
from smidgen.evaluation.overlap import AITOD_CONSTANT_PX, Measure, normalized_wasserstein
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
    iou = precision_by_size(truth, results, protocol)
    wasserstein = likeness_precision_by_size(truth, results, protocol, normalized_wasserstein(constant_px))
    rows = (
        LikenessBySize(size, truth.objects_in(bounds), *_mean_and_first(iou[size]), *_mean_and_first(wasserstein[size]))
        for size, bounds in protocol.areas.items()
    )
    return WassersteinComparison(constant_px, float(protocol.thresholds[0]), tuple(rows))


def likeness_precision_by_size(
    truth: GroundTruth, results: Results, protocol: Protocol, measure: Measure
) -> dict[str, Float[NDArray[np.float64], "T K"]]:
    """For every size bin AP by threshold and class, under any measure of overlap; NaN without objects of the class."""
    thresholds, limit = protocol.thresholds, protocol.detection_limits[-1]
    contest = open_contest(truth, results, measure, lowest_threshold=float(thresholds[0]), limit=limit)
    once = np.ones((1, len(truth.image_ids)), np.int64)
    values = {}
    for size, area in protocol.areas.items():
        matching = match_contest(contest, truth, results, thresholds=thresholds, area=area)
        values[size] = average_precisions(matching, results, once)[0]
    return values


def _mean_and_first(values: NDArray[np.float64]) -> tuple[float, float]:
    """Over classes with objects: the mean over all thresholds, and at the first."""
    present = values[:, ~np.isnan(values).any(axis=0)]
    return (float(present.mean()), float(present[0].mean())) if present.size else (-1.0, -1.0)
