"""How much of each image its boxes cover, where they overlap counted once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from smidgen.data.statistics.object_table import ObjectTable
from smidgen.data.statistics.overlaps import overlapping_pairs


def covered_areas(table: ObjectTable) -> Float[NDArray[np.float64], " B"]:
    """Square px of each image that lie in any box, in the table's frame.

    Only boxes that overlap others need more than a sum: two that overlap are told by their IoU, larger groups are
    drawn on the grid of their own borders.
    """
    if len(table) == 0:
        return np.zeros(table.num_images)
    pairs, ious = overlapping_pairs(table, 0.0)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(table), len(table)))
    group = connected_components(graph, directed=False)[1]
    size, first = np.bincount(group), np.unique(group, return_index=True)[1]
    area = np.bincount(group, weights=table.areas_px)
    of_two = size[group[pairs[:, 0]]] == 2
    area[group[pairs[of_two, 0]]] /= 1 + ious[of_two]
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(size)[:-1])
    for larger in np.flatnonzero(size > 2):
        area[larger] = _union(table.boxes_xyxy[members[larger]])
    areas: NDArray[np.float64] = np.bincount(table.image[first], weights=area, minlength=table.num_images).astype(float)
    return areas


def _union(boxes_xyxy: Float[NDArray[np.float64], "K 4"]) -> float:
    """Of one group of boxes: their borders cut the plane into cells, each of which is covered or not."""
    x, column = np.unique(boxes_xyxy[:, 0::2], return_inverse=True)
    y, row = np.unique(boxes_xyxy[:, 1::2], return_inverse=True)
    (x0, x1), (y0, y1) = column.reshape(-1, 2).T, row.reshape(-1, 2).T
    boxes = np.zeros((len(y), len(x)), np.int32)
    np.add.at(boxes, (np.concatenate([y0, y1]), np.concatenate([x0, x1])), 1)
    np.add.at(boxes, (np.concatenate([y0, y1]), np.concatenate([x1, x0])), -1)
    for axis in (0, 1):
        np.cumsum(boxes, axis=axis, out=boxes)
    return float(np.diff(y) @ (boxes[:-1, :-1] > 0) @ np.diff(x))
