"""How elongated objects are: anchors and square crops fit some shapes and not others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smidgen.data.statistics.distribution import Histogram, Quantiles
from smidgen.data.statistics.object_table import ObjectTable

# Width / height: equal steps of the logarithm around a square.
RATIO_EDGES = (0.0, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 2, 2.0, 3.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class ShapeStatistics:
    """ratios: of width / height (None without objects). histogram: over RATIO_EDGES. elongated: share of objects whose
    longer side is at least three times the shorter.
    """

    ratios: Quantiles | None
    histogram: Histogram
    elongated: float


def shape_statistics(table: ObjectTable) -> ShapeStatistics:
    """Width over height of every object."""
    width, height = table.sizes_wh.T
    ratios = width / height
    long = np.maximum(ratios, 1 / ratios) >= 3
    return ShapeStatistics(
        Quantiles.of(ratios), Histogram.of(ratios, RATIO_EDGES), float(long.mean()) if len(long) else 0.0
    )
