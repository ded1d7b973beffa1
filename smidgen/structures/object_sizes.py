"""How large the objects are that a model was trained on, which says how much the tiles of a large image must share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSizes:
    """Of the longer sides of `count` objects, in pixels of the training images as they are stored on disk."""

    count: int
    median_px: float
    percentile_99_px: float
    largest_px: float

    @staticmethod
    def of(sides_px: npt.NDArray[np.floating]) -> ObjectSizes | None:
        """sides_px: the longer side of each object. None without objects."""
        if not len(sides_px):
            return None
        median, percentile_99, largest = np.quantile(sides_px, (0.5, 0.99, 1.0)).round(2).tolist()
        return ObjectSizes(count=len(sides_px), median_px=median, percentile_99_px=percentile_99, largest_px=largest)
