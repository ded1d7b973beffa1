"""Recall bound of non-maximum suppression: of objects that overlap too much, even perfect boxes are merged."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from smidgen.data.statistics.object_table import ObjectTable
from smidgen.data.statistics.overlaps import Pairs


def suppression_bound(table: ObjectTable, pairs: Pairs, ious: Float[NDArray[np.float64], " P"], iou: float) -> float:
    """Recall that suppression by class at this IoU allows perfect boxes; 1 where there are no objects.

    pairs, ious: of `overlapping_pairs` down to `iou` or below. Each group of objects that overlap one another, directly
    or by others between them, loses at least one; chains may lose more.
    """
    if len(table) == 0:
        return 1.0
    merged = pairs[(table.labels[pairs[:, 0]] == table.labels[pairs[:, 1]]) & (ious > iou)]
    graph = coo_array((np.ones(len(merged)), (merged[:, 0], merged[:, 1])), shape=(len(table), len(table)))
    group = connected_components(graph, directed=False)[1]
    return float(1 - (np.bincount(group) > 1).sum() / len(table))
