"""What a protocol does not judge at all is taken out before anything is matched.

Ignored regions are crowds of every class (COCO's rule: a detection that matches no object may lie in a crowd, by
intersection over the detection's own area), or they remove what they cover. The second is the VisDrone-DET toolkit's
(Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021): objects and detections of which at least half
lies in the union of the image's ignored regions are gone, whatever they would have matched, and detections that are
gone use up no limit.

The toolkit draws the regions into an image and sums it over rounded boxes. Here the union is cut at the regions' own
edges into a small grid, and a box's share is its overlap with the grid's columns and rows: the same numbers without the
images. Its conventions are kept: coordinates count from 1, a region holds its last row and column as well, a box does
not, sides and coordinates are at least 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.protocol import Protocol

COVERED_SHARE = 0.5


def apply_ignore_rules(truth: GroundTruth, results: Results, protocol: Protocol) -> tuple[GroundTruth, Results]:
    """Truth and results as the protocol judges them: after score floor and rules of crowds, heights and regions."""
    if protocol.score_floor is not None:
        results = results.kept(results.scores >= protocol.score_floor)
    if protocol.crowds == "objects":
        truth = replace(truth, crowd=truth.region)
    if protocol.least_height_px is not None:
        truth = replace(truth, crowd=truth.crowd | (truth.boxes_xywh[:, 3] <= protocol.least_height_px))
    if protocol.ignored_regions == "remove":
        outside = ~covered(truth, results.image, results.boxes_xywh)
        truth = truth.kept(~truth.region & ~covered(truth, truth.image, truth.boxes_xywh))
        results = results.kept(outside)
    return truth, results


def covered(
    truth: GroundTruth, image: NDArray[np.int64], boxes_xywh: Float[NDArray[np.float64], "N 4"]
) -> Bool[NDArray[np.bool_], " N"]:
    """Which boxes the ignored regions of their image cover by half or more, as the VisDrone-DET toolkit counts."""
    inside = np.zeros(len(image), np.bool_)
    order = np.argsort(image, kind="stable")
    first_copy = truth.region & (truth.category == 0)
    for index in np.unique(truth.image[first_copy]):
        rows = order[slice(*np.searchsorted(image[order], [index, index + 1]))]
        regions = truth.boxes_xywh[first_copy & (truth.image == index)]
        inside[rows] = _shares(boxes_xywh[rows], regions, truth.sizes_wh[index]) >= COVERED_SHARE
    return inside


def _shares(
    boxes_xywh: NDArray[np.float64], regions_xywh: NDArray[np.float64], size_wh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covered share of every box, by the union of the regions."""
    boxes, regions = np.maximum(np.round(boxes_xywh), 1), np.maximum(np.trunc(regions_xywh), 1)
    low, high = regions[:, :2] - 1, np.minimum(regions[:, :2] + regions[:, 2:], size_wh)
    columns, rows = np.unique([low[:, 0], high[:, 0]]), np.unique([low[:, 1], high[:, 1]])
    in_columns = (low[:, :1] <= columns[:-1]) & (columns[1:] <= high[:, :1])
    in_rows = (low[:, 1:] <= rows[:-1]) & (rows[1:] <= high[:, 1:])
    union = np.einsum("rh,rw->hw", in_rows, in_columns, dtype=np.int64) > 0
    heights, widths = _overlap(boxes[:, [1, 3]], rows), _overlap(boxes[:, [0, 2]], columns)
    area = (heights @ union * widths).sum(axis=1)
    return np.asarray(area / boxes[:, 2:].prod(axis=1))


def _overlap(start_length: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length of each span within each cell between two edges."""
    start, end = start_length[:, :1], start_length.sum(axis=1, keepdims=True)
    return np.clip(np.minimum(end, edges[1:]) - np.maximum(start, edges[:-1]), 0, None)
