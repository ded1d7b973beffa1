"""Who matches whom when detections choose in order of their scores, under any measure of overlap.

COCO's rule (Lin et al., 2014): detections choose one after another, best score first, each the free object that it
overlaps most. The same result comes out when all choose at once and every object keeps the best score that asked for
it, while those turned away ask their next one: D. Gale, L. Shapley, "College Admissions and the Stability of Marriage",
1962. As all objects rank detections alike, that stable matching is unique. So a round is a few array operations for a
whole data set, and a handful of rounds is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.engine import Matching
from smidgen.evaluation.overlap import Measure
from smidgen.evaluation.overlap_pairs import OverlapPairs, overlap_pairs

# What pycocotools takes off a threshold of 1, so that a perfect box reaches it.
LARGEST_THRESHOLD = 1 - 1e-10


def assign_greedily(
    pairs: OverlapPairs,
    rank: Int[NDArray[np.int64], " R"],
    shared: Bool[NDArray[np.bool_], " M"],
) -> Int[NDArray[np.int64], " R"]:
    """The truth that each row of results gets, -1 = none.

    pairs: sorted by detection, then by its preference, favorite first. rank: of each row, 0 = chooses first.
    shared: truths that any number of detections may have (crowds).
    """
    wishes = np.bincount(pairs.detection, minlength=len(rank))
    stop = np.cumsum(wishes)
    place = stop - wishes
    holder = np.full(len(shared), len(rank))  # rank of who holds each truth; len(rank) = nobody
    row_of_rank = np.empty(len(rank) + 1, np.int64)
    row_of_rank[rank] = np.arange(len(rank))
    asking = np.flatnonzero(place < stop)
    while len(asking):
        wanted = pairs.truth[place[asking]]
        asking, wanted = asking[~shared[wanted]], wanted[~shared[wanted]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, rank[asking])
        refused = asking[holder[wanted] != rank[asking]]
        displaced = np.unique(row_of_rank[before[(holder[wanted] < before) & (before < len(rank))]])
        asking = np.concatenate([refused, displaced])
        place[asking] += 1
        asking = asking[place[asking] < stop[asking]]
    given = np.full(len(rank), -1)
    happy = place < stop
    given[happy] = pairs.truth[place[happy]]
    return given


@dataclass(frozen=True, slots=True)
class Contest:
    """What is the same for every size bin and threshold: who takes part, in which order, and whom each could match.

    rows: of `Results`, within the detection limit, as in `Matching`. rank: of every row of `Results`. pairs: of these
    rows with objects of their class, by detection, then most alike first.
    """

    rows: Int[NDArray[np.int64], " D"]
    rank: Int[NDArray[np.int64], " R"]
    pairs: OverlapPairs


def open_contest(
    truth: GroundTruth, results: Results, measure: Measure, *, lowest_threshold: float, limit: int
) -> Contest:
    """All pairs that could match at `lowest_threshold` or above, under any measure of overlap."""
    rows = within_limit(results, limit)
    pairs = overlap_pairs(truth, results, rows, measure=measure, least=_floor(lowest_threshold))
    pairs = pairs[results.category[pairs.detection] == truth.category[pairs.truth]]
    # Of equally good objects pycocotools takes the last.
    order = np.lexsort((-pairs.truth, -pairs.overlap, pairs.detection))
    return Contest(rows, score_rank(results), pairs[order])


def match_contest(
    contest: Contest,
    truth: GroundTruth,
    results: Results,
    *,
    thresholds: Float[NDArray[np.float64], " T"],
    area: tuple[float, float],
) -> Matching:
    """As `engine.match`, under the contest's measure. thresholds: none below the contest's lowest.

    Crowds and objects outside the size bin are chosen last, and make detections count for nothing.
    """
    ignored = truth.crowd | (truth.area < area[0]) | (truth.area > area[1])
    pairs, rows = contest.pairs, contest.rows
    pairs = pairs[np.argsort(2 * pairs.detection + ignored[pairs.truth], kind="stable")]
    given = np.stack(
        [
            assign_greedily(pairs[pairs.overlap >= _floor(value)], contest.rank, truth.crowd)[rows]
            for value in thresholds
        ]
    )
    own_area = results.boxes_xywh[rows, 2] * results.boxes_xywh[rows, 3]
    elsewhere = (own_area < area[0]) | (own_area > area[1])
    counted = np.where(given >= 0, ~np.append(ignored, False)[given], ~elsewhere)
    return Matching(rows, given, counted, _objects(truth, ignored))


def within_limit(results: Results, limit: int) -> Int[NDArray[np.int64], " D"]:
    """Rows among the best `limit` of their image and class; by class, then best score first, as in `Matching`."""
    order = np.lexsort((-results.scores, results.category, results.image))
    group = np.stack([results.image[order], results.category[order]])
    starts = np.flatnonzero(np.append(True, (np.diff(group) != 0).any(axis=0))) if len(order) else order
    position = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    kept = order[position < limit]
    return kept[np.lexsort((kept, results.image[kept], -results.scores[kept], results.category[kept]))]


def score_rank(results: Results) -> Int[NDArray[np.int64], " R"]:
    """The place of every row when all are sorted by score, best = 0; ties: as in the file."""
    rank = np.empty(len(results.scores), np.int64)
    rank[np.argsort(-results.scores, kind="stable")] = np.arange(len(rank))
    return rank


def _floor(threshold: float) -> float:
    return float(min(threshold, LARGEST_THRESHOLD))


def _objects(truth: GroundTruth, ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    objects = np.zeros((len(truth.image_ids), len(truth.category_ids)), np.int64)
    np.add.at(objects, (truth.image[~ignored], truth.category[~ignored]), 1)
    return objects
