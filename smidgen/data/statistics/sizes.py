"""How large the objects are, in the bins of the protocols that people compare with.

Sizes are square roots of the areas of boxes. COCO: Lin et al., "Microsoft COCO", 2014 (32 and 96 px). AI-TOD: Wang et
al., "Tiny Object Detection in Aerial Images", 2020 (8, 16 and 32 px). Protocols judge by the area that annotations
state; where that is the area of a mask, their bins hold a few more small objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from smidgen.data.statistics.distribution import Histogram, Quantiles
from smidgen.data.statistics.object_table import ObjectTable

EDGES_PX = (0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

# Protocol -> name of the bin -> its smallest size; the next bin begins where it ends.
SIZE_BINS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "aitod": {"verytiny": 0.0, "tiny": 8.0, "small": 16.0, "medium": 32.0},
        "coco": {"small": 0.0, "medium": 32.0, "large": 96.0},
    }
)


@dataclass(frozen=True, slots=True)
class SizeStatistics:
    """quantiles: None without objects. histogram: over EDGES_PX. bins: protocol -> bin -> objects. by_class: class ->
    counts of the histogram.
    """

    quantiles: Quantiles | None
    histogram: Histogram
    bins: Mapping[str, Mapping[str, int]]
    by_class: Mapping[str, tuple[int, ...]]


def size_statistics(table: ObjectTable) -> SizeStatistics:
    """Sizes in the table's frame: pixels on disk, or of the network input."""
    sides_px = table.sides_px
    return SizeStatistics(
        Quantiles.of(sides_px),
        Histogram.of(sides_px, EDGES_PX),
        {protocol: _binned(sides_px, bins) for protocol, bins in SIZE_BINS.items()},
        _by_class(table, sides_px),
    )


def _binned(sides_px: npt.NDArray[np.float64], bins: Mapping[str, float]) -> dict[str, int]:
    counts = Histogram.of(sides_px, tuple(bins.values())).counts
    return dict(zip(bins, counts, strict=True))


def _by_class(table: ObjectTable, sides_px: npt.NDArray[np.float64]) -> dict[str, tuple[int, ...]]:
    width, classes = len(EDGES_PX), len(table.class_names)
    bins = np.searchsorted(EDGES_PX, sides_px, side="right") - 1
    counts = np.bincount(table.labels * width + bins, minlength=classes * width).reshape(classes, width)
    return {name: tuple(row) for name, row in zip(table.class_names, counts.tolist(), strict=True)}
