"""What is taken for what: true classes against detected ones, with background for objects missed and false alarms.

Detections of at least a score choose objects regardless of class, best score first, each the free object it overlaps
most (of equals one of its own class). Those left over inside a crowd of their class are no false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.detection_order import score_rank
from smidgen.evaluation.greedy_matching import assign_greedily
from smidgen.evaluation.overlap_pairs import OverlapPairs, overlap_pairs

BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """counts[t, d]: objects of class t detected as class d. The last row and column are background: false alarms and
    objects missed."""

    names: tuple[str, ...]
    counts: Int[NDArray[np.int64], "K+1 K+1"]
    score_threshold: float
    iou_threshold: float

    @property
    def worst(self) -> tuple[tuple[str, str, int], ...]:
        """Pairs of different classes (true, detected, count), most frequent first, without background."""
        inner = self.counts[:-1, :-1] * (1 - np.eye(len(self.names), dtype=np.int64))
        true, detected = np.nonzero(inner)
        order = np.argsort(-inner[true, detected], kind="stable")
        return tuple(
            (self.names[row], self.names[column], int(inner[row, column]))
            for row, column in zip(true[order], detected[order], strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; rows are true classes, the last name is background."""
        return {
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "classes": [*self.names, BACKGROUND],
            "counts": self.counts.tolist(),
        }


def confusion_matrix(
    truth: GroundTruth, results: Results, *, score_threshold: float, iou_threshold: float = 0.5
) -> ConfusionMatrix:
    """Count detections of at least `score_threshold` that match at `iou_threshold`, and what is left of both."""
    rows = np.flatnonzero(results.scores >= score_threshold)
    pairs = _by_preference(truth, results, overlap_pairs(truth, results, rows, least=iou_threshold))
    given = assign_greedily(pairs, score_rank(results), truth.crowd)[rows]
    in_crowd = (given >= 0) & np.append(truth.crowd, False)[given]
    rows, given = rows[~in_crowd], given[~in_crowd]
    background = len(truth.category_ids)
    counts = np.zeros((background + 1,) * 2, np.int64)
    np.add.at(counts, (np.append(truth.category, background)[given], results.category[rows]), 1)
    missed = ~truth.crowd
    missed[given[given >= 0]] = False
    counts[:-1, background] = np.bincount(truth.category[missed], minlength=background)
    return ConfusionMatrix(truth.labels, counts, score_threshold, iou_threshold)


def _by_preference(truth: GroundTruth, results: Results, pairs: OverlapPairs) -> OverlapPairs:
    """Sorted as `assign_greedily` wants them; crowds last, and those of another class not at all."""
    other_class = results.category[pairs.detection] != truth.category[pairs.truth]
    crowd = truth.crowd[pairs.truth]
    order = np.lexsort((pairs.truth, other_class, -pairs.overlap, crowd, pairs.detection))
    return pairs[order[~(crowd & other_class)[order]]]
