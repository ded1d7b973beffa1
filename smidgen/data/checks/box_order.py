"""Boxes written as two corners where a format expects a corner or center and a size: seen only over a whole file."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

_FEWEST_BOXES = 10
_NEARLY_ALL = 0.99
_MANY = 0.2
_TOLERANCE = 0.01  # of the image's side


def corners_mistaken_for_size(
    written: Float[np.ndarray, "N 4"], leaves: Bool[np.ndarray, " N"], extent_wh: Float[np.ndarray, "N 2"]
) -> bool:
    """Whether the four numbers as written are rather x0 y0 x1 y1.

    leaves: whether each box leaves its image when read as the format says. extent_wh: sides of each box's image in the
    unit of the numbers. True where many boxes leave their image, and read as corners nearly all are well-formed and
    inside.
    """
    if len(written) < _FEWEST_BOXES or leaves.mean() < _MANY:
        return False
    start, end = written[:, :2], written[:, 2:]
    well_formed = (end > start).all(axis=1) & (start >= -_TOLERANCE * extent_wh).all(axis=1)
    inside = (end <= (1 + _TOLERANCE) * extent_wh).all(axis=1)
    return bool((well_formed & inside).mean() >= _NEARLY_ALL)
