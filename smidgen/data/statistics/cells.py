"""Recall bound of a feature pyramid: what shows in its cells, and has one of them to itself.

A rule of thumb, not a law. An object shows where its side (square root of the area) spans at least one cell of the
finest level: below that its features are mostly those of its surroundings. It is asked for at the cell where its center
lies, and a cell asks for one object; of two centers in one cell the second may take the cell of a coarser level. A
network may learn to ask for an object from a neighboring cell and then find more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smidgen.data.statistics.object_table import ObjectTable, row_numbers


def share_of_side(table: ObjectTable, least_px: float) -> float:
    """Share of objects whose side is at least `least_px`, in the table's frame; 1 where there are no objects."""
    return float((table.sides_px >= least_px).mean()) if len(table) else 1.0


def share_with_own_cell(table: ObjectTable, strides: Sequence[int]) -> float:
    """Share of objects that get a cell for themselves, of one level or of several.

    strides: of the levels, finest first, each a multiple of the one before; table: in pixels of the network input.
    """
    return _own_cells(table, strides) / len(table) if len(table) else 1.0


def pyramid_bound(table: ObjectTable, strides: Sequence[int]) -> float:
    """Share of objects that show at the finest level and get a cell for themselves on any level."""
    if len(table) == 0:
        return 1.0
    return _own_cells(table.only(table.sides_px >= strides[0]), strides) / len(table)


def _own_cells(table: ObjectTable, strides: Sequence[int]) -> int:
    """Number of objects served, the finest level first: no other object could use its cell, so this is the most."""
    cells = np.column_stack([table.image, (table.centers_xy // strides[0]).astype(np.int64)])
    waiting, served = np.ones(len(cells), np.int64), 0
    for finer, stride in zip((strides[0], *strides), strides, strict=False):
        cells[:, 1:] //= stride // finer
        _, first, which = np.unique(row_numbers(cells), return_index=True, return_inverse=True)
        cells, waiting = cells[first], np.bincount(which, weights=waiting).astype(np.int64)
        served += int((waiting > 0).sum())
        waiting = np.maximum(waiting - 1, 0)
        cells, waiting = cells[waiting > 0], waiting[waiting > 0]
    return served
