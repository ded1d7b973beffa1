"""Six ways to be wrong, and how much AP each one costs, for objects of each size.

D. Bolya, S. Foley, J. Hays, J. Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
section 2. A detection that is not right is one of: Cls (the box of an object of another class), Loc (its class, but a
box between the two thresholds), Both (another class and such a box), Dupe (the object is already found), Bkg (nothing
is there). An object that none of its Cls or Loc detections could have been is a Miss. The cost of a type is the gain
in AP when an oracle mends that type alone: the best Cls or Loc detection of an object that is not found becomes right
and the others go, Both, Dupe and Bkg go, and a Miss is no longer asked for. FP removes all wrong detections, FN asks
for found objects only.

By size (not in the paper): an error belongs to the size bin of the object it is about; Dupe and Bkg to that of the
detection. A bin's AP is that of its objects, right detections and errors, so it may differ from a protocol's figure,
which puts wrong detections into bins by their own area alone.

tidecv lets an object's best detection be picked among Cls and Loc together while it mends one of them; here among the
mended. hotcoco turns every Cls and Loc detection right, also when several are about one object, and finds Misses with
the highest score instead of not asking for them. Both give an AP of 0 to a class whose objects are all no longer asked
for, so that missing everything costs nothing; here that is 1: with nothing to find, no detection is perfect. Both also
count an IoU of exactly the upper threshold as Loc, which for a duplicate contradicts the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.engine import Engine
from smidgen.evaluation.overlap_pairs import OverlapPairs, overlap_pairs
from smidgen.evaluation.precision_curve import average_precision
from smidgen.evaluation.protocol import Protocol

WRONG_TYPES = ("Cls", "Loc", "Both", "Dupe", "Bkg")
ERROR_TYPES = (*WRONG_TYPES, "Miss")
SPECIAL_TYPES = ("FP", "FN")
CLS, LOC, BOTH, DUPE, BKG = range(5)
RIGHT = -1


@dataclass(frozen=True, slots=True)
class FoundErrors:
    """What is wrong with every detection that counts, and which objects are missed.

    detection: row of `Results`, best score first over all classes. kind: index into WRONG_TYPES, RIGHT = -1. truth: the
    object it matches or is wrong about, -1 = none. area: px^2, of the object or, for Dupe and Bkg, its own. unfound,
    missed: rows of `GroundTruth` without a match, and those of them that are no Cls or Loc detection's object either.
    """

    detection: Int[NDArray[np.int64], " D"]
    kind: Int[NDArray[np.int64], " D"]
    truth: Int[NDArray[np.int64], " D"]
    area: Float[NDArray[np.float64], " D"]
    unfound: Bool[NDArray[np.bool_], " M"]
    missed: Bool[NDArray[np.bool_], " M"]


@dataclass(frozen=True, slots=True)
class SizeErrors:
    """One size bin: AP at the upper threshold, and per type how many errors there are and what AP mending them gains.

    average_precision: -1 without objects. counts: by ERROR_TYPES. gain: by ERROR_TYPES and SPECIAL_TYPES, in this bin.
    gain_overall: by ERROR_TYPES, what mending this bin's errors alone gains for all sizes together.
    """

    size: str
    objects: int
    average_precision: float
    counts: dict[str, int]
    gain: dict[str, float]
    gain_overall: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "size": self.size,
            "objects": self.objects,
            "AP": self.average_precision,
            "counts": self.counts,
            "delta_AP": self.gain,
            "delta_AP_overall": self.gain_overall,
        }


@dataclass(frozen=True, slots=True)
class ErrorTypes:
    """The six types for every size bin of a protocol; the first bin is the protocol's default (all sizes)."""

    iou_threshold: float
    background_threshold: float
    by_size: tuple[SizeErrors, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "iou_threshold": self.iou_threshold,
            "background_threshold": self.background_threshold,
            "by_size": [errors.to_json() for errors in self.by_size],
        }


def error_types(
    truth: GroundTruth,
    results: Results,
    protocol: Protocol,
    *,
    iou_threshold: float = 0.5,
    background_threshold: float = 0.1,
) -> ErrorTypes:
    """Errors by type and size under the protocol's size bins and largest limit.

    iou_threshold: what a right detection overlaps its object by at least. background_threshold: above this overlap, a
    wrong detection is about something. Raises ValueError unless 0 <= background_threshold < iou_threshold <= 1.
    """
    if not 0 <= background_threshold < iou_threshold <= 1:
        raise ValueError(
            "expected 0 <= background_threshold < iou_threshold <= 1, "
            f"got {background_threshold:g} and {iou_threshold:g}"
        )
    found = find_errors(truth, results, protocol, iou_threshold, background_threshold)
    everything = _Judged(truth, results, found, next(iter(protocol.areas.values())))
    by_size = []
    for size, bounds in protocol.areas.items():
        judged = _Judged(truth, results, found, bounds)
        by_size.append(_size_errors(size, judged, everything))
    return ErrorTypes(iou_threshold, background_threshold, tuple(by_size))


def find_errors(
    truth: GroundTruth, results: Results, protocol: Protocol, iou_threshold: float, background_threshold: float
) -> FoundErrors:
    """Match once, at all sizes, and say what is wrong with whom. Detections that matched a crowd do not count."""
    bounds = next(iter(protocol.areas.values()))
    limit = protocol.detection_limits[-1]
    matching = Engine(truth, results).match(thresholds=np.array([iou_threshold]), area=bounds, limit=limit)
    counted, hit = matching.counted[0], matching.hit[0]
    rows, matched, right = matching.detection[counted], matching.truth[0][counted], hit[counted]
    order = np.lexsort((rows, results.image[rows], -results.scores[rows]))
    rows, matched, right = rows[order], matched[order], right[order]
    kind, about = np.full(len(rows), RIGHT), matched.copy()
    kind[~right], about[~right] = _blame(truth, results, rows[~right], iou_threshold, background_threshold)
    unfound = truth.wanted(bounds)
    unfound[matched[right]] = False
    missed = unfound.copy()
    missed[about[(kind == CLS) | (kind == LOC)]] = False
    own_area = results.boxes_xywh[rows, 2] * results.boxes_xywh[rows, 3]
    by_own = (kind == DUPE) | (kind == BKG)
    area = np.where(by_own, own_area, np.append(truth.area, 0.0)[about])
    return FoundErrors(rows, kind, about, area, unfound, missed)


def _blame(
    truth: GroundTruth,
    results: Results,
    rows: NDArray[np.int64],
    iou_threshold: float,
    background_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Kind and object of detections that are wrong, in the order of the official toolbox: Loc, Cls, Dupe, Bkg, Both."""
    pairs = overlap_pairs(truth, results, rows)
    pairs = pairs[~truth.crowd[pairs.truth]]
    same = results.category[pairs.detection] == truth.category[pairs.truth]
    own, own_truth = _best_of(pairs[same], rows, len(results.scores))
    other, other_truth = _best_of(pairs[~same], rows, len(results.scores))
    tests = [
        (own >= background_threshold) & (own < iou_threshold) & (own > 0),
        other >= iou_threshold,
        own >= iou_threshold,
        other <= background_threshold,
    ]
    kind = np.select(tests, [LOC, CLS, DUPE, BKG], BOTH)
    about = np.select([tests[0], tests[1], tests[2], tests[3]], [own_truth, other_truth, own_truth, -1], other_truth)
    return kind, about


def _best_of(pairs: OverlapPairs, rows: NDArray[np.int64], total: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The largest overlap of each row and its truth (of equals the first); 0 and -1 where there is none."""
    order = np.lexsort((pairs.truth, -pairs.overlap, pairs.detection))
    detection, first = np.unique(pairs.detection[order], return_index=True)
    overlap, best = np.zeros(total), np.full(total, -1)
    overlap[detection] = pairs.overlap[order[first]]
    best[detection] = pairs.truth[order[first]]
    return overlap[rows], best[rows]


class _Judged:
    """The errors of one size bin with what AP needs: who is kept, of which class, right or wrong."""

    def __init__(self, truth: GroundTruth, results: Results, found: FoundErrors, bounds: tuple[float, float]) -> None:
        self.truth, self.found, self.bounds = truth, found, bounds
        self.kept = (found.area >= bounds[0]) & (found.area <= bounds[1])
        self.wanted = truth.wanted(bounds)
        self.category = results.category[found.detection]
        self.objects = self._per_class(self.wanted)
        self.exact = self._mean_precision(self.category, found.kind == RIGHT, self.kept, self.objects)

    def counts(self) -> dict[str, int]:
        """How many errors of each type."""
        counts = {name: int(np.sum(self.kept & (self.found.kind == kind))) for kind, name in enumerate(WRONG_TYPES)}
        return counts | {"Miss": int(np.sum(self.wanted & self.found.missed))}

    def gain(self, kind: str, within: _Judged) -> float:
        """What AP gains here when the errors of this kind that belong to the bin `within` are mended."""
        if kind in ("Miss", "FN"):
            objects = self.wanted & within.wanted & (self.found.missed if kind == "Miss" else self.found.unfound)
            mended = self._without(objects) if objects.any() else self.exact
        else:
            wrong = self.kept & within.kept & (self.found.kind != RIGHT)
            if kind != "FP":
                wrong &= self.found.kind == WRONG_TYPES.index(kind)
            mended = self._mended(wrong, kind in ("Cls", "Loc")) if wrong.any() else self.exact
        return mended - self.exact

    def _without(self, objects: NDArray[np.bool_]) -> float:
        left = self.objects - self._per_class(objects)
        return self._mean_precision(self.category, self.found.kind == RIGHT, self.kept, left)

    def _mended(self, wrong: NDArray[np.bool_], becoming_right: bool) -> float:
        category, right, kept = self.category, self.found.kind == RIGHT, self.kept & ~wrong
        if becoming_right:
            candidates = np.flatnonzero(wrong & self.found.unfound[self.found.truth])
            about, first = np.unique(self.found.truth[candidates], return_index=True)
            best = candidates[first]
            category, kept = category.copy(), kept.copy()
            category[best], right[best], kept[best] = self.truth.category[about], True, True
        return self._mean_precision(category, right, kept, self.objects)

    def _mean_precision(
        self,
        category: NDArray[np.int64],
        right: NDArray[np.bool_],
        kept: NDArray[np.bool_],
        objects: NDArray[np.int64],
    ) -> float:
        """Mean over the classes that have objects in the bin, mended or not; -1 where none has."""
        present = np.flatnonzero(self.objects)
        if not len(present):
            return -1.0
        category, right = category[kept], right[kept]
        order = np.argsort(category.astype(np.min_scalar_type(len(objects))), kind="stable")  # small type: radix sort
        starts = np.searchsorted(category[order], np.arange(len(objects) + 1))
        values = [
            average_precision(right[order[starts[index] : starts[index + 1]]], int(objects[index]))
            if objects[index]
            else 1.0
            for index in present
        ]
        return float(np.mean(values))

    def _per_class(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self.truth.category[chosen], minlength=len(self.truth.category_ids))


def _size_errors(size: str, judged: _Judged, everything: _Judged) -> SizeErrors:
    kinds: Sequence[str] = (*ERROR_TYPES, *SPECIAL_TYPES)
    return SizeErrors(
        size,
        int(judged.objects.sum()),
        judged.exact,
        judged.counts(),
        {kind: judged.gain(kind, judged) for kind in kinds},
        {kind: everything.gain(kind, judged) for kind in ERROR_TYPES},
    )
