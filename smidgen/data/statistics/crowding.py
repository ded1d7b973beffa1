"""How close objects stand to each other: what one cell, one query or one suppression may merge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from smidgen.data.statistics.distribution import Quantiles
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.data.statistics.overlaps import overlapping_pairs

REACH = 2.0
OVERLAPS = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class OverlapCount:
    """Pairs of objects whose IoU is above `iou`, and those of one class, which suppression by class would merge."""

    iou: float
    pairs: int
    same_class: int


@dataclass(frozen=True, slots=True)
class Crowding:
    """nearest: distance of centers to the nearest other object of the image, in sizes (square root of the area) of the
    object itself; only objects that are not alone. alone: share of objects without another in their image. neighbors:
    other centers within 2 sizes. overlaps: at the IoU thresholds of OVERLAPS.
    """

    nearest: Quantiles | None
    alone: float
    neighbors: Quantiles | None
    overlaps: tuple[OverlapCount, ...]


def crowding(table: ObjectTable) -> Crowding:
    """Distances are measured in sizes of objects: the same in either frame, as far as resizing keeps the aspect."""
    distances_px, neighbors = _neighborhood(table)
    accompanied = np.isfinite(distances_px)
    nearest = distances_px[accompanied] / table.sides_px[accompanied]
    alone = float(1 - accompanied.mean()) if len(table) else 0.0
    return Crowding(Quantiles.of(nearest), alone, Quantiles.of(neighbors), _overlaps(table))


def _neighborhood(
    table: ObjectTable,
) -> tuple[Float[NDArray[np.float64], " M"], Int[NDArray[np.int64], " M"]]:
    """Distance to the nearest other center in px (inf = there is none), and other centers within 2 sizes."""
    if len(table) == 0:
        return np.zeros(0), np.zeros(0, np.int64)
    reach_px = REACH * table.sides_px
    # One tree for all images: a third coordinate keeps them farther apart than anything is looked for.
    apart_px = 4.0 * float(table.sizes_hw.max())
    points = np.column_stack([table.centers_xy, table.image * apart_px])
    tree = cKDTree(points)
    distances_px = np.asarray(tree.query(points, k=2)[0])[:, 1]
    neighbors = np.asarray(tree.query_ball_point(points, reach_px, return_length=True)) - 1
    return np.where(distances_px < apart_px, distances_px, np.inf), neighbors.astype(np.int64)


def _overlaps(table: ObjectTable) -> tuple[OverlapCount, ...]:
    pairs, ious = overlapping_pairs(table, min(OVERLAPS))
    same = table.labels[pairs[:, 0]] == table.labels[pairs[:, 1]]
    return tuple(OverlapCount(iou, int((ious > iou).sum()), int((same & (ious > iou)).sum())) for iou in OVERLAPS)
