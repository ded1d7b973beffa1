"""How many images there are, how large, and how many of them show nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smidgen.data.statistics.distribution import Histogram, Quantiles, round_edges
from smidgen.data.statistics.object_table import ObjectTable

SHOWN_SIZES = 8


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """sizes_wh: the most frequent (width, height, images), most frequent first; different_sizes: how many there are.
    short_side, long_side: px, None without images.
    """

    number: int
    without_objects: int
    sizes_wh: tuple[tuple[int, int, int], ...]
    different_sizes: int
    short_side: Quantiles | None
    long_side: Quantiles | None


@dataclass(frozen=True, slots=True)
class CountStatistics:
    """Objects per image: quantiles (None without images) and a histogram over all images."""

    quantiles: Quantiles | None
    histogram: Histogram


def image_statistics(table: ObjectTable) -> ImageStatistics:
    """Of all images, with or without objects."""
    sizes, number = np.unique(table.sizes_hw, axis=0, return_counts=True)
    order = np.argsort(-number, kind="stable")[:SHOWN_SIZES]
    return ImageStatistics(
        table.num_images,
        int((table.counts == 0).sum()),
        tuple((int(sizes[place, 1]), int(sizes[place, 0]), int(number[place])) for place in order),
        len(sizes),
        Quantiles.of(table.sizes_hw.min(axis=1)),
        Quantiles.of(table.sizes_hw.max(axis=1)),
    )


def count_statistics(table: ObjectTable) -> CountStatistics:
    """Objects per image."""
    counts = table.counts
    return CountStatistics(Quantiles.of(counts), Histogram.of(counts, round_edges(float(counts.max(initial=0)))))
