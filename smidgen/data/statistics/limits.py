"""Recall bounds of limited numbers: of queries or detections per image, per image and class, or per image and level.

Whatever is limited to N of a group can find at most N of the group's objects. Protocols differ in the group: VisDrone's
toolkit keeps 500 detections of an image, COCO (100) and AI-TOD (1500) keep theirs of an image and class.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.data.object_counts import ObjectsPerImage
from smidgen.data.statistics.object_table import ObjectTable


def bound_per_image(table: ObjectTable, limit: int) -> float:
    """Recall that `limit` answers per image allow; 1 where there are no objects."""
    return ObjectsPerImage(table.counts).recall_limit(limit)


def bound_per_image_and_class(table: ObjectTable, limit: int) -> float:
    """Recall that `limit` answers per image and class allow."""
    groups = table.image * max(len(table.class_names), 1) + table.labels
    counts = np.unique(groups, return_counts=True)[1].astype(np.int64)
    return ObjectsPerImage(counts).recall_limit(limit)


def bound_per_level(
    table: ObjectTable, levels: Int[NDArray[np.int64], " M"], limits: Float[NDArray[np.float64], "B L"]
) -> float:
    """Recall where every object is asked for on its own level. levels: of each object, 0 = finest. limits: queries of
    each image on each level.
    """
    if len(table) == 0:
        return 1.0
    num_images, num_levels = limits.shape
    counts = np.bincount(table.image * num_levels + levels, minlength=num_images * num_levels)
    return float(np.minimum(counts.reshape(limits.shape), limits).sum() / len(table))
