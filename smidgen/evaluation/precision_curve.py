"""The average precision of one class, by each of the three rules in use, from its detections in order of their scores.

- 101 points: the monotone envelope of precision, read at the recalls 0, 0.01 ... 1 (COCO: Lin et al., 2014).
- all points: the area under that envelope (VisDrone-DET toolkit: Zhu et al., 2021).
- plain area: the area under the curve itself, its points joined by straight lines (CrowdHuman: S. Shao et al., "A
  Benchmark for Detecting Human in a Crowd", 2018). That toolkit starts at the first detection; here the stretch from
  recall 0 to it counts as well (at most one part in the number of objects), so that a perfect detector has 1.

Detections that are neither right nor wrong are left out before.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

PrecisionRule = Literal["101_points", "all_points", "plain_area"]

RECALL_LEVELS: Float[NDArray[np.float64], 101] = np.linspace(0.0, 1.0, 101)


def average_precision(hit: Bool[NDArray[np.bool_], " D"], objects: int, rule: PrecisionRule = "101_points") -> float:
    """AP in [0, 1]. hit: which detections are right, best score first. objects: to be found, at least 1."""
    if objects < 1:
        raise ValueError(f"expected at least one object, got {objects}")
    if rule == "101_points":
        return float(falling_precision(hit, objects).mean())
    return float((_envelope(hit) if rule == "all_points" else _joined(hit)).sum() / objects)


def falling_precision(hit: Bool[NDArray[np.bool_], " D"], objects: int) -> Float[NDArray[np.float64], 101]:
    """The best precision at each recall level or beyond; 0 at recalls that are not reached."""
    envelope = np.append(_envelope(hit), 0.0)
    recall = np.arange(1, len(envelope)) / max(objects, 1)
    return envelope[np.searchsorted(recall, RECALL_LEVELS)]


def _envelope(hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """At each right detection, the best precision there or beyond: it peaks nowhere else."""
    places = np.flatnonzero(hit)
    precision = np.arange(1, len(places) + 1) / (places + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def _joined(hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """At each right detection, the mean of its precision and that of the detection before it."""
    if not len(hit):
        return np.zeros(0)
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    before = np.concatenate([precision[:1], precision[:-1]])
    return np.asarray((before + precision)[hit] / 2)
