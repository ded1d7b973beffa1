"""Ignore regions for formats that mark objects to be ignored: one about any class stands there once per class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smidgen.data.dataset import ANY_CLASS, Record


def with_ignored(
    record: Record, num_classes: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Boxes (xyxy px), class indices and whether to ignore, objects first."""
    about = record.region_labels
    repeats = np.where(about == ANY_CLASS, num_classes, 1)
    regions = np.repeat(record.ignore_xyxy, repeats, axis=0)
    labels = [np.arange(num_classes) if label == ANY_CLASS else np.array([label]) for label in about]
    boxes: npt.NDArray[np.float32] = np.concatenate([record.boxes_xyxy, regions])
    every_label = np.concatenate([record.labels, *labels]).astype(np.int64)
    return boxes, every_label, np.arange(len(boxes)) >= len(record.labels)
