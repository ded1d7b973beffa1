"""Average precision as the plain area under the precision-recall curve, neither sampled nor made monotone.

S. Shao et al., "CrowdHuman: A Benchmark for Detecting Human in a Crowd", 2018: the toolkit joins the points of the
curve by straight lines. It starts at the first detection; here the stretch from recall 0 to it counts as well (at most
one part in the number of objects), so that a perfect detector has 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray


def precision_recall_area(
    hit: Bool[NDArray[np.bool_], " D"], counted: Bool[NDArray[np.bool_], " D"], *, objects: int
) -> float:
    """The area for one class from its detections, best score first; 0 where there are none.

    hit: true positives. counted: False where a detection is neither right nor wrong. objects: to be found, at least 1.
    """
    if objects < 1:
        raise ValueError(f"expected at least one object, got {objects}")
    right = (hit & counted)[counted]
    if not len(right):
        return 0.0
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    before = np.concatenate([precision[:1], precision[:-1]])
    # Recall grows by 1 / objects at each hit, and stands still elsewhere.
    return float(((before + precision) / 2)[right].sum() / objects)
