"""Optimal LRP: the lowest localization-recall-precision error that a score threshold can reach.

K. Oksuz, B. C. Cam, E. Akbas, S. Kalkan, "Localization Recall Precision (LRP): A New Performance Metric for Object
Detection", 2018, eq. 3. As in AI-TOD's evaluator: true positives at IoU 0.5, crowds left out, class means over the
classes with ground truth, of which a class without a true positive counts 1 and has no parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.engine import Matching
from smidgen.evaluation.overlap import aligned_iou


@dataclass(frozen=True, slots=True)
class OptimalErrors:
    """Per class; NaN where there is no ground truth, parts also NaN where there is no true positive.

    total: the error in [0, 1]. localization: mean 1 - IoU of true positives. false_positives: their share of the
    detections. false_negatives: missed share of the objects. The parts are those at the best score threshold.
    """

    total: Float[NDArray[np.float64], " K"]
    localization: Float[NDArray[np.float64], " K"]
    false_positives: Float[NDArray[np.float64], " K"]
    false_negatives: Float[NDArray[np.float64], " K"]


def optimal_errors(truth: GroundTruth, results: Results, matching: Matching, iou_threshold: float) -> OptimalErrors:
    """oLRP of every class, from a matching at one IoU threshold."""
    rows = np.full((4, len(truth.category_ids)), np.nan)
    hit = matching.hit[0]
    distance = np.zeros(len(hit))
    distance[hit] = 1 - aligned_iou(
        truth.boxes_xywh[matching.truth[0][hit]], results.boxes_xywh[matching.detection[hit]]
    )
    category = results.category[matching.detection]
    for index, objects in enumerate(matching.objects.sum(axis=0)):
        if objects:
            of_class = (category == index) & matching.counted[0]
            rows[:, index] = _of_class(hit[of_class], distance[of_class], int(objects), iou_threshold)
    return OptimalErrors(*rows)


def _of_class(
    hit: NDArray[np.bool_], distance: NDArray[np.float64], objects: int, iou_threshold: float
) -> tuple[float, float, float, float]:
    if not hit.any():
        return 1.0, np.nan, np.nan, np.nan
    found, kept, total_distance = np.cumsum(hit), np.arange(1, len(hit) + 1), np.cumsum(distance)
    # TP + FP + FN = detections kept + objects missed.
    error = (total_distance / (1 - iou_threshold) + (kept - found) + (objects - found)) / (kept + objects - found)
    best = int(np.argmin(error))
    true, count = int(found[best]), int(kept[best])
    localization = float(total_distance[best]) / true if true else np.nan
    return float(error[best]), localization, (count - true) / count, (objects - true) / objects
