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
from smidgen.evaluation.detection_order import by_class, rank_within, score_rank
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
    within = np.flatnonzero(rank_within(results, "image_and_class") < limit)
    rows = within[by_class(results, within)]
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
    ignored = ~truth.wanted(area)
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
    return Matching(rows, given, counted, truth.counted(~ignored))


def _floor(threshold: float) -> float:
    return float(min(threshold, LARGEST_THRESHOLD))
