"""How many objects a detector misses while it raises few false alarms: the log-average miss rate.

P. Dollar, C. Wojek, B. Schiele, P. Perona, "Pedestrian Detection: An Evaluation of the State of the Art", TPAMI 2012,
section 3.2: miss rate against false positives per image, read at nine points evenly spaced in log space from 1e-2 to
1e0, averaged geometrically. As in their toolbox a point reads the last value at or below it, and 1 where there is none.
The CrowdHuman toolkit reads the first value at or above the point, which differs where a point lies on a step (by about
0.001 on a thousand images). brambox, which made IterDet's figures, interpolates, which is the same as here up to the
end of the curve; beyond it brambox takes 0, here the last value stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import Results
from smidgen.evaluation.engine import Matching

REFERENCE_POINTS: Float[NDArray[np.float64], 9] = np.logspace(-2.0, 0.0, 9)
# A detector without a miss has no logarithm; the toolbox stops here.
SMALLEST_MISS_RATE = 1e-10


@dataclass(frozen=True, slots=True)
class MissRateCurve:
    """What is missed, and the false alarms, when the detections down to each one are kept; best score first."""

    miss_rate: Float[NDArray[np.float64], " D"]
    false_positives_per_image: Float[NDArray[np.float64], " D"]


def miss_rate_curve(
    hit: Bool[NDArray[np.bool_], " D"], counted: Bool[NDArray[np.bool_], " D"], *, objects: int, images: int
) -> MissRateCurve:
    """The curve of one class from its detections over all images, best score first.

    hit: true positives. counted: False where a detection is neither right nor wrong (it lies on an ignored region).
    objects: to be found, at least 1. images: at least 1, those without objects included.
    """
    if objects < 1 or images < 1:
        raise ValueError(f"expected at least one object and one image, got {objects} and {images}")
    found = np.cumsum(hit & counted)
    wrong = np.cumsum(counted & ~hit)
    return MissRateCurve(miss_rate=1.0 - found / objects, false_positives_per_image=wrong / images)


def log_average_miss_rate(curve: MissRateCurve) -> float:
    """The geometric mean of the miss rate at the nine reference points; 0 is best, 1 finds nothing."""
    # false_positives_per_image never falls, so the last value at or below a point is one search.
    last = np.searchsorted(curve.false_positives_per_image, REFERENCE_POINTS, side="right")
    read = np.concatenate([[1.0], curve.miss_rate])[last]
    return float(np.exp(np.log(np.maximum(read, SMALLEST_MISS_RATE)).mean()))


def miss_rate_by_class(matching: Matching, results: Results) -> Float[NDArray[np.float64], " K"]:
    """The mean of every class at the matching's first threshold; NaN where there is nothing to find."""
    objects, images = matching.objects.sum(axis=0), len(matching.objects)
    values = np.full(len(objects), np.nan)
    category = results.category[matching.detection]
    for index in np.flatnonzero(objects):
        rows = slice(*np.searchsorted(category, [index, index + 1]))
        hit, counted = matching.hit[0, rows], matching.counted[0, rows]
        values[index] = log_average_miss_rate(miss_rate_curve(hit, counted, objects=int(objects[index]), images=images))
    return values
