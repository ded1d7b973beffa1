"""Figures of one class that are read off its detections in the order of their scores, over all images at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import Results
from smidgen.evaluation.engine import Matching
from smidgen.evaluation.miss_rate import log_average_miss_rate, miss_rate_curve
from smidgen.evaluation.precision_recall_area import precision_recall_area

Marks = Bool[NDArray[np.bool_], " D"]


def _miss_rate(hit: Marks, counted: Marks, objects: int, images: int) -> float:
    return log_average_miss_rate(miss_rate_curve(hit, counted, objects=objects, images=images))


def _area(hit: Marks, counted: Marks, objects: int, images: int) -> float:
    return precision_recall_area(hit, counted, objects=objects)


# Name of a protocol's measure -> (hit, counted, number of objects, number of images) -> value.
RANKED_MEASURES: Mapping[str, Callable[[Marks, Marks, int, int], float]] = MappingProxyType(
    {"log_average_miss_rate": _miss_rate, "precision_recall_area": _area}
)


def ranked_measure(name: str, matching: Matching, results: Results) -> Float[NDArray[np.float64], " K"]:
    """The measure of every class at the matching's first threshold; NaN where there is nothing to find."""
    objects = matching.objects.sum(axis=0)
    images = len(matching.objects)
    values = np.full(len(objects), np.nan)
    category = results.category[matching.detection]
    for index in np.flatnonzero(objects):
        rows = slice(*np.searchsorted(category, [index, index + 1]))
        hit, counted = matching.hit[0, rows], matching.counted[0, rows]
        values[index] = RANKED_MEASURES[name](hit, counted, int(objects[index]), images)
    return values
