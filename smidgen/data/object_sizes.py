"""How large objects are where a network sees them: decides on which level of a pyramid queries should start."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smidgen.data.dataset import DetectionDataset
from smidgen.structures import Preprocessing


def object_sides_px(dataset: DetectionDataset, preprocessing: Preprocessing) -> npt.NDArray[np.float64]:
    """Square root of the area of every object's box, in pixels of the network input, in the dataset's order.

    Read from the records alone, without ignore regions; the size is that of evaluation, before any augmentation.
    """
    boxes_xyxy = np.concatenate([np.zeros((0, 4)), *(record.boxes_xyxy for record in dataset.records)])
    sizes_px = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).astype(np.float64)
    scales = [_scale(record.size_hw, preprocessing) for record in dataset.records]
    per_object = np.repeat(scales, [len(record) for record in dataset.records]) if scales else np.zeros(0)
    sides_px: npt.NDArray[np.float64] = np.sqrt(sizes_px.prod(axis=1)) * per_object
    return sides_px


def _scale(size_hw: tuple[int, int], preprocessing: Preprocessing) -> float:
    """Network-input pixels per pixel on disk: the geometric mean of both axes, whose rounding differs a little."""
    height, width = size_hw
    resized_height, resized_width = preprocessing.resized_hw(height, width)
    return float(np.sqrt(resized_height / height * resized_width / width))
