"""COCO results (cocodataset.org, "Results Format"): one dictionary for each detection, boxes [x, y, w, h] in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.structures.classes import Classes
from smidgen.structures.detections import Detections
from smidgen.structures.interchange.sorted_detections import column, labels_of, sorted_detections


def from_coco(results: Sequence[Mapping[str, Any]], classes: Classes, image_hw: tuple[int, int]) -> Detections:
    """The results of one image. Raises ValueError for those of several images, unknown categories and missing keys."""
    images = list(dict.fromkeys(column(results, "image_id")))
    if len(images) > 1:
        raise ValueError(f"expected results of one image, got those of {len(images)}; group them by image_id first")
    return sorted_detections(
        [corners(box) for box in column(results, "bbox")],
        column(results, "score"),
        labels_of(column(results, "category_id"), classes),
        classes,
        image_hw,
        image_id=images[0] if images else 0,
    )


def corners(box_xywh: Sequence[float]) -> tuple[float, float, float, float]:
    """[x, y, w, h] as (x0, y0, x1, y1)."""
    x, y, width, height = box_xywh
    return x, y, x + width, y + height
