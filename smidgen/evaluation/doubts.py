"""What predictions look like when something else was meant: said beside the figures, never mended.

A wrong unit, corners in place of width and height, or detections cut at a score give no error, only low figures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results

# Detectors that keep all of their answers have some below this score.
USUAL_LOWEST_SCORE = 0.05
# A detector draws over the border by some pixels; corners read as sizes end far beyond it.
BEYOND_BORDER = 1.1


def doubts(truth: GroundTruth, results: Results) -> tuple[str, ...]:
    """Sentences about these detections; none where nothing is strange."""
    if not len(results.scores):
        return ()
    return tuple(sentence for suspect in _SUSPECTS if (sentence := suspect(truth, results)))


def _scores(truth: GroundTruth, results: Results) -> str:
    low, high = float(results.scores.min()), float(results.scores.max())
    if low < 0 or high > 1:
        return f"scores are {low:g} to {high:g}, not in [0, 1]: only their order counts (are they logits or per cent?)"
    if low >= USUAL_LOWEST_SCORE:
        return f"no score is below {low:g}: average precision wants all detections, also those of low scores"
    return ""


def _negative_sides(truth: GroundTruth, results: Results) -> str:
    negative = int(np.count_nonzero((results.boxes_xywh[:, 2:] < 0).any(axis=1)))
    return f"{negative} boxes have a negative width or height, and match nothing" if negative else ""


def _empty_objects(truth: GroundTruth, results: Results) -> str:
    empty = int(np.count_nonzero((truth.boxes_xywh[:, 2:] <= 0).any(axis=1) & ~truth.crowd))
    words = "objects have no width or no height, and cannot be found: `smidgen check` names them"
    return f"{empty} {words}" if empty else ""


def _normalized(truth: GroundTruth, results: Results) -> str:
    within_a_pixel = (np.maximum.reduce(list(boxes.T)) <= 1 for boxes in (results.boxes_xywh, truth.boxes_xywh))
    if [_mostly(marks) for marks in within_a_pixel] != [True, False]:
        return ""
    return "most boxes lie within one pixel: are they shares of the image's sides? pixels are wanted"


def _corners(truth: GroundTruth, results: Results) -> str:
    boxes = results.boxes_xywh
    ends = boxes[:, :2] + boxes[:, 2:]
    right, bottom = (ends > BEYOND_BORDER * truth.sizes_wh[results.image]).T
    if not _mostly(right | bottom) or not _mostly(np.min(boxes[:, 2:] - boxes[:, :2], axis=1) > 0):
        return ""
    return "most boxes end outside their image: are they corners [x1, y1, x2, y2]? [x, y, width, height] is wanted"


def _silent_images(truth: GroundTruth, results: Results) -> str:
    with_objects = np.unique(truth.image[~truth.crowd])
    silent = int(np.count_nonzero(np.bincount(results.image, minlength=len(truth.image_ids))[with_objects] == 0))
    return f"{silent} of {len(with_objects)} images with objects have no detection at all" if silent else ""


def _silent_classes(truth: GroundTruth, results: Results) -> str:
    with_objects = np.unique(truth.category[~truth.crowd])
    silent = with_objects[np.bincount(results.category, minlength=len(truth.category_ids))[with_objects] == 0]
    names = ", ".join(truth.labels[index] for index in silent[:5]) + (", ..." if len(silent) > 5 else "")
    return f"classes with objects and without any detection: {names}" if len(silent) else ""


def _mostly(marks: NDArray[np.bool_]) -> bool:
    return bool(len(marks)) and float(marks.mean()) > 0.5


_SUSPECTS: tuple[Callable[[GroundTruth, Results], str], ...] = (
    _scores,
    _negative_sides,
    _empty_objects,
    _normalized,
    _corners,
    _silent_images,
    _silent_classes,
)
