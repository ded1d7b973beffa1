"""Every detection with every object of its image that it resembles: the sparse table behind matching and blame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.overlap import Measure, intersection_over_union, share_inside


@dataclass(frozen=True, slots=True)
class OverlapPairs:
    """Rows of `Results` and `GroundTruth` of one image each, of any classes, with their likeness in (0, 1].

    A pair with a crowd holds the share of the detection inside it, whatever the measure.
    """

    detection: Int[NDArray[np.int64], " P"]
    truth: Int[NDArray[np.int64], " P"]
    overlap: Float[NDArray[np.float64], " P"]

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> OverlapPairs:
        return OverlapPairs(self.detection[chosen], self.truth[chosen], self.overlap[chosen])


def overlap_pairs(
    truth: GroundTruth,
    results: Results,
    rows: Int[NDArray[np.int64], " D"],
    *,
    measure: Measure = intersection_over_union,
    least: float = 0.0,
) -> OverlapPairs:
    """Pairs of these rows of `results` with all objects, where the overlap is above 0 and at least `least`."""
    detections = rows[np.argsort(results.image[rows], kind="stable")]
    objects = np.argsort(truth.image, kind="stable")
    images = np.arange(len(truth.image_ids) + 1)
    detection_starts = np.searchsorted(results.image[detections], images)
    object_starts = np.searchsorted(truth.image[objects], images)
    occupied = np.flatnonzero((np.diff(detection_starts) > 0) & (np.diff(object_starts) > 0))
    parts = [OverlapPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for image in occupied:
        of_image = detections[detection_starts[image] : detection_starts[image + 1]]
        against = objects[object_starts[image] : object_starts[image + 1]]
        parts.append(_pairs_of_image(truth, results, of_image, against, measure, least))
    return OverlapPairs(
        np.concatenate([part.detection for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.overlap for part in parts]),
    )


def _pairs_of_image(
    truth: GroundTruth,
    results: Results,
    detections: NDArray[np.int64],
    objects: NDArray[np.int64],
    measure: Measure,
    least: float,
) -> OverlapPairs:
    boxes, crowd = results.boxes_xywh[detections], truth.crowd[objects]
    overlap = measure(boxes, truth.boxes_xywh[objects])
    if crowd.any():
        overlap[:, crowd] = share_inside(boxes, truth.boxes_xywh[objects[crowd]])
    row, column = np.nonzero((overlap > 0) & (overlap >= least))
    return OverlapPairs(detections[row], objects[column], overlap[row, column])
