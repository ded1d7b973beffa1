"""Where in the images objects lie, and how much of an image they cover: where objects are small, mostly little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smidgen.data.statistics.covered_area import covered_areas
from smidgen.data.statistics.distribution import Quantiles
from smidgen.data.statistics.object_table import ObjectTable

CELLS = 24


@dataclass(frozen=True, slots=True)
class Placement:
    """density: CELLS x CELLS, rows from top to bottom: share of all objects whose center lies there, every image
    stretched to a square. covered: over images, the share of the image that lies in any box (None without images).
    """

    density: tuple[tuple[float, ...], ...]
    covered: Quantiles | None


def placement(table: ObjectTable) -> Placement:
    """The same in either frame of pixels."""
    size_xy = table.sizes_hw[table.image, ::-1]
    cells = np.clip((table.centers_xy / size_xy * CELLS).astype(np.int64), 0, CELLS - 1)
    number = np.bincount(cells[:, 1] * CELLS + cells[:, 0], minlength=CELLS * CELLS).reshape(CELLS, CELLS)
    density = number / max(len(table), 1)
    covered = covered_areas(table) / table.sizes_hw.prod(axis=1)
    return Placement(tuple(tuple(row) for row in density.tolist()), Quantiles.of(covered))
