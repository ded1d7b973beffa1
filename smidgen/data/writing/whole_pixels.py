"""Boxes for formats that know whole pixels only: corners rounded to the nearest, at least one pixel wide and high."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from smidgen.data.writing.image_names import NamedImage
from smidgen.data.writing.shortfalls import Shortfall


def whole_pixels(boxes_xyxy: npt.NDArray[np.float32], size_hw: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The same boxes with whole corners, inside the image."""
    height, width = size_hw
    limits = np.array([width, height])
    corners = np.rint(boxes_xyxy.astype(np.float64)).astype(np.int64)
    start = np.clip(corners[:, :2], 0, limits - 1)
    end = np.clip(np.maximum(corners[:, 2:], start + 1), 1, limits)
    whole: npt.NDArray[np.int64] = np.concatenate([start, end], axis=1)
    return whole


def moved_borders(named: Iterable[NamedImage]) -> Shortfall:
    """Objects and regions whose borders are moved by rounding, and by how much at most."""
    count, most = 0, 0.0
    for image in named:
        record = image.record
        boxes = np.concatenate([record.boxes_xyxy, record.ignore_xyxy])
        moved = np.abs(whole_pixels(boxes, record.size_hw) - boxes).max(axis=1, initial=0.0)
        count += int((moved > 1e-3).sum())
        most = max(most, float(moved.max(initial=0.0)))
    return Shortfall(
        "rounded_boxes", count, f"boxes are rounded to whole pixels, which moves borders by {most:.2f} px at most"
    )
