"""How well the best anchor of a dense detector covers each object: those that none covers are hardly learned.

Ren et al., "Faster R-CNN", 2015, section 3.1.2: an anchor answers for an object from an IoU of 0.7 (there) or 0.5 (in
RetinaNet) on, or where no other covers the object better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from smidgen.boxes.anchors import AnchorShapes
from smidgen.data.statistics.object_table import ObjectTable


def best_anchor_ious(
    table: ObjectTable, anchors: AnchorShapes, strides: Sequence[int]
) -> Float[NDArray[np.float64], " M"]:
    """IoU of each object with the anchor that covers it best, of all shapes, cells and levels.

    table: in pixels of the network input; strides: of the levels, as many as `anchors.sizes`.
    """
    best, (width, height) = np.zeros(len(table)), table.sizes_wh.T.copy()
    for level, stride in enumerate(strides):
        away_x, away_y = _distances(table, stride, anchors.offset)
        for anchor_width, anchor_height in (2 * anchors.around_origin(level)[:, 2:].double()).tolist():
            shared = _shared(width, anchor_width, away_x) * _shared(height, anchor_height, away_y)
            best = np.maximum(best, shared / (width * height + anchor_width * anchor_height - shared))
    return best


def _distances(table: ObjectTable, stride: int, offset: float) -> Float[NDArray[np.float64], "2 M"]:
    """From each center to the nearest middle of an anchor, in x and in y. Of all places of one shape the nearest
    overlaps most, since it does so in x and in y.
    """
    limits_xy = np.ceil(table.sizes_hw[table.image, ::-1] / stride) - 1
    cells = np.clip(np.round(table.centers_xy / stride - offset), 0, limits_xy)
    distances: NDArray[np.float64] = np.abs((cells + offset) * stride - table.centers_xy).T.copy()
    return distances


def _shared(length: NDArray[np.float64], anchor: float, away: NDArray[np.float64]) -> NDArray[np.float64]:
    """What two intervals share whose middles lie `away` from each other."""
    shared: NDArray[np.float64] = np.maximum(np.minimum((length + anchor) / 2 - away, np.minimum(length, anchor)), 0)
    return shared
