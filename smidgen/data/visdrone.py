"""VisDrone-DET as it is distributed, and its rule for cutting an image and its labels into four.

Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021 (the data); Yang et al., "QueryDet", CVPR 2022,
section 4.1 (the patches). Of a split there are images/NAME.jpg and annotations/NAME.txt with one row for each box:
x, y, width, height in pixels, score (0 = not to be judged), category (0 = ignored region, 11 = others), truncation,
occlusion.

The rule is the released code's: an image is cut at height // 2 and width // 2; a box belongs to the patch that has its
top left corner and is clipped at the cut, so that what of it lies in other patches is unlabeled there; there is no
minimum of visibility. Differences: rows of category 11 are left out whatever their score (the released code relies on
the score), and ignored regions, which that code drops and thereby teaches as background, may be kept: every patch then
has its part of them, since a region has no one place.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smidgen.data.geometry import Window
from smidgen.data.image_files import shown
from smidgen.data.visdrone_categories import CATEGORIES as CATEGORIES
from smidgen.data.visdrone_categories import CATEGORY_NAMES as CATEGORY_NAMES
from smidgen.data.visdrone_categories import IGNORED_REGION as IGNORED_REGION
from smidgen.structures import Classes

CLASSES = Classes(CATEGORY_NAMES, tuple(CATEGORIES))

_SCORE, _CATEGORY = 4, 5
_COLUMNS = 6  # truncation and occlusion, which may be missing, are not needed

Rows = npt.NDArray[np.int64]


def read_rows(file: Path) -> Rows:
    """The rows of an annotation file: x, y, width, height, score, category. Errors: ValueError naming the line."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    rows = [_row(file, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return np.array(rows, dtype=np.int64).reshape(-1, _COLUMNS)


def _row(file: Path, number: int, line: str) -> list[int]:
    try:
        row = [int(value) for value in line.split(",")[:_COLUMNS]]
    except ValueError:
        row = []
    if len(row) < _COLUMNS:
        raise ValueError(
            f"expected x,y,width,height,score,category in whole numbers in line {number} of {shown(file)}, got {line!r}"
        )
    return row


def patches(size_hw: tuple[int, int]) -> tuple[Window, Window, Window, Window]:
    """Top left, top right, bottom left, bottom right; an odd row or column goes to the bottom or right."""
    (height, width), (row, column) = size_hw, (size_hw[0] // 2, size_hw[1] // 2)
    return (
        Window(0, 0, row, column),
        Window(0, column, row, width - column),
        Window(row, 0, height - row, column),
        Window(row, column, height - row, width - column),
    )


def judged(rows: Rows, categories: Collection[int] = CATEGORIES) -> npt.NDArray[np.bool_]:
    """Which rows are objects: of one of the categories and with a score."""
    objects: npt.NDArray[np.bool_] = np.isin(rows[:, _CATEGORY], list(categories)) & (rows[:, _SCORE] != 0)
    return objects


def split_objects(
    rows: Rows, size_hw: tuple[int, int], categories: Collection[int] = CATEGORIES
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The objects of an image by patch: row index, patch index (as in `patches`), x, y, width, height in the patch.

    In the order of the rows. categories: the released code has 1 to 11.
    """
    chosen = np.flatnonzero(judged(rows, categories))
    boxes = rows[chosen, :4]
    cut = np.array([size_hw[1] // 2, size_hw[0] // 2])
    before_cut = boxes[:, :2] < cut
    end = boxes[:, :2] + boxes[:, 2:]
    end = np.where(before_cut, np.minimum(end, cut), end)
    start = boxes[:, :2] - np.where(before_cut, 0, cut)
    patch = (~before_cut[:, 1]) * 2 + ~before_cut[:, 0]
    return chosen, patch.astype(np.int64), np.concatenate([start, end - boxes[:, :2]], axis=1)


def ignored_regions(rows: Rows, window: Window) -> npt.NDArray[np.int64]:
    """What of the ignored regions lies in a window: x, y, width, height in it."""
    boxes = rows[rows[:, _CATEGORY] == IGNORED_REGION, :4]
    origin, extent = np.array([window.left, window.top]), np.array([window.width, window.height])
    start = np.clip(boxes[:, :2] - origin, 0, extent)
    end = np.clip(boxes[:, :2] + boxes[:, 2:] - origin, 0, extent)
    parts: npt.NDArray[np.int64] = np.concatenate([start, end - start], axis=1)
    inside: npt.NDArray[np.bool_] = (end > start).all(axis=1)
    return np.compress(inside, parts, axis=0)


def class_indices(rows: Rows) -> npt.NDArray[np.int64]:
    """Contiguous class of each row of the categories 1 to 10: 0 to 9."""
    indices: npt.NDArray[np.int64] = rows[:, _CATEGORY] - CATEGORIES.start
    return indices
