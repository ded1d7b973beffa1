"""How alike boxes are: intersection over union, share inside a region, normalized Wasserstein distance; all pairs.

Numpy counterparts of `smidgen.boxes.overlap` for evaluation, which must not load torch, with pycocotools' order of
operations, so that ties are ties. J. Wang, C. Xu, W. Yang, L. Yu, "A Normalized Gaussian Wasserstein Distance for Tiny
Object Detection", 2021, equations 8 and 9: a shift of one pixel costs a 4 x 4 box as much as a 400 x 400 box, unlike in
IoU.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

# (N x 4, M x 4), both xywh in pixels -> N x M in [0, 1]; 1 = the same box.
Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

# The paper's C: the average absolute size of AI-TOD's objects in pixels.
AITOD_CONSTANT_PX = 12.8


def intersection_over_union(
    rows_xywh: Float[NDArray[np.float64], "N 4"], columns_xywh: Float[NDArray[np.float64], "M 4"]
) -> Float[NDArray[np.float64], "N M"]:
    """Shared area over joint area; 0 where the boxes do not overlap or are empty."""
    shared = _intersection(rows_xywh, columns_xywh)
    joint = _areas(rows_xywh)[:, None] + _areas(columns_xywh)[None] - shared
    return np.divide(shared, joint, out=np.zeros_like(shared), where=shared > 0)


def share_inside(
    rows_xywh: Float[NDArray[np.float64], "N 4"], regions_xywh: Float[NDArray[np.float64], "M 4"]
) -> Float[NDArray[np.float64], "N M"]:
    """Share of each row's box that lies in each region: how detections are judged against crowds."""
    shared = _intersection(rows_xywh, regions_xywh)
    own = np.broadcast_to(_areas(rows_xywh)[:, None], shared.shape)
    return np.divide(shared, own, out=np.zeros_like(shared), where=shared > 0)


def normalized_wasserstein(constant_px: float = AITOD_CONSTANT_PX) -> Measure:
    """exp(-W / C), where W is the 2-Wasserstein distance of the boxes' Gaussians (mean: center, deviation: half side).

    constant_px: C, the distance at which likeness has fallen to 1 / e; the paper's is the mean object size of its data.
    """
    if constant_px <= 0:
        raise ValueError(f"expected a positive constant C in pixels, got {constant_px}")

    def measure(rows_xywh: NDArray[np.float64], columns_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
        rows, columns = _gaussians(rows_xywh), _gaussians(columns_xywh)
        distance = np.sqrt(((rows[:, None] - columns[None]) ** 2).sum(axis=-1))
        likeness: NDArray[np.float64] = np.exp(-distance / constant_px)
        return likeness

    return measure


def aligned_iou(
    left_xywh: Float[NDArray[np.float64], "N 4"], right_xywh: Float[NDArray[np.float64], "N 4"]
) -> Float[NDArray[np.float64], " N"]:
    """Intersection over union of row i with row i; 0 where they do not overlap."""
    low = np.maximum(left_xywh[:, :2], right_xywh[:, :2])
    high = np.minimum(left_xywh[:, :2] + left_xywh[:, 2:], right_xywh[:, :2] + right_xywh[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    joint = _areas(left_xywh) + _areas(right_xywh) - shared
    return np.divide(shared, joint, out=np.zeros_like(shared), where=shared > 0)


def _intersection(rows_xywh: NDArray[np.float64], columns_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, width, height = rows_xywh.T[:, :, None]
    other_left, other_top, other_width, other_height = columns_xywh.T[:, None, :]
    shared_width = np.minimum(left + width, other_left + other_width) - np.maximum(left, other_left)
    shared_height = np.minimum(top + height, other_top + other_height) - np.maximum(top, other_top)
    return np.maximum(shared_width, 0) * np.maximum(shared_height, 0)


def _areas(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes_xywh[:, 2] * boxes_xywh[:, 3]


def _gaussians(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    half_sides = boxes_xywh[:, 2:] / 2
    return np.concatenate([boxes_xywh[:, :2] + half_sides, half_sides], axis=1)
