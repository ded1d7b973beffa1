"""Pairs of objects that overlap, by a sweep along x in which all images take part at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.data.statistics.object_table import ObjectTable

Indices = Int[NDArray[np.int64], " P"]
Pairs = Int[NDArray[np.int64], "P 2"]


def overlapping_pairs(table: ObjectTable, least_iou: float) -> tuple[Pairs, Float[NDArray[np.float64], " P"]]:
    """Indices of every two objects of an image whose IoU is above `least_iou` (at least 0), and their IoU."""
    corners, areas_px = table.boxes_xyxy.T.copy(), table.areas_px
    found = [(np.zeros((0, 2), np.int64), np.zeros(0))]
    for first, second in _pairs_that_share_columns(table):
        ious = _ious(corners, areas_px, first, second)
        above = ious > least_iou
        found.append((np.column_stack([first[above], second[above]]), ious[above]))
    return np.concatenate([pairs for pairs, _ in found]), np.concatenate([ious for _, ious in found])


def _pairs_that_share_columns(table: ObjectTable) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of one image whose intervals in x overlap: with objects ordered by image and left border, object i is
    compared with i + 1, i + 2 ... until one begins where i has ended; every step compares all that are still open.
    """
    order = np.lexsort((table.boxes_xyxy[:, 0], table.image))
    left, right, image = table.boxes_xyxy[order, 0], table.boxes_xyxy[order, 2], table.image[order]
    open_ones, step = np.arange(len(order)), 0
    while len(open_ones):
        step += 1
        open_ones = open_ones[open_ones + step < len(order)]
        other = open_ones + step
        open_ones = open_ones[(image[open_ones] == image[other]) & (left[other] < right[open_ones])]
        yield order[open_ones], order[open_ones + step]


def _ious(
    corners: Float[NDArray[np.float64], "4 M"],
    areas_px: Float[NDArray[np.float64], " M"],
    first: Indices,
    second: Indices,
) -> Float[NDArray[np.float64], " P"]:
    """Intersection over union of pairs whose intervals in x overlap. corners: x0, y0, x1, y1."""
    x0, y0, x1, y1 = corners
    width = np.minimum(x1[first], x1[second]) - np.maximum(x0[first], x0[second])
    height = np.maximum(np.minimum(y1[first], y1[second]) - np.maximum(y0[first], y0[second]), 0)
    shared = width * height
    ious: NDArray[np.float64] = shared / (areas_px[first] + areas_px[second] - shared)
    return ious
