"""Detections in order of their scores: over everything, within what a limit counts, and class by class.

Equal scores stand as in the file, which is what the official COCO tool's stable sort makes of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import Results

LimitScope = Literal["image_and_class", "image"]


def score_rank(results: Results) -> Int[NDArray[np.int64], " D"]:
    """The place of every detection among all, from 0 for the best."""
    rank = np.empty(len(results.scores), np.int64)
    rank[np.argsort(-results.scores, kind="stable")] = np.arange(len(rank))
    return rank


def rank_within(results: Results, scope: LimitScope) -> Int[NDArray[np.int64], " D"]:
    """The place of every detection, from 0 for the best, in its image, or among those of its image and class."""
    group = results.image
    if scope == "image_and_class":
        group = group * (int(results.category.max(initial=0)) + 1) + results.category
    order = np.lexsort((-results.scores, group))
    starts = np.searchsorted(group[order], group[order])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts
    return rank


def within_limit(results: Results, limit: int, scope: LimitScope) -> Results:
    """The best `limit` detections of each image, or of each image and class, in the file's order."""
    return results.kept(rank_within(results, scope) < limit)


def by_class(results: Results, rows: Int[NDArray[np.int64], " N"]) -> Int[NDArray[np.int64], " N"]:
    """Where these rows stand when sorted by class, then best score first (ties: by image, then as in the file)."""
    return np.lexsort((rows, results.image[rows], -results.scores[rows], results.category[rows]))
