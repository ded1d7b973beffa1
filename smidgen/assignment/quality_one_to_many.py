"""As many predictions for each object as its best ones deserve: well-placed ones first, confident ones last.

PaQ-DETR, CVPR 2026 (arXiv 2603.06917), quality-aware adaptive assignment: quality Q = IoU - lambda * confidence; an
object gets about the sum of its k best qualities as positives, the best ones. No code is published; where the paper and
the article about it differ or are silent, the options below name both readings and the docstring says which is the
default. A development fork of the authors supports "product" and "hungarian_copies".

The decision is taken on the host, image by image, in float64; within an image everything is one operation on the
queries x objects matrices, apart from objects that would be left without a query, which choose one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from smidgen.boxes import cxcywh_to_xyxy, full_precision, pairwise_iou
from smidgen.boxes.host_matching import MatchRequest, Pairs, figures_on_host, match_together
from smidgen.boxes.solvers import Solver
from smidgen.structures import Matches, Predictions, Target

Costs: TypeAlias = Callable[[Predictions, Sequence[Target]], list[Tensor]]
"""Matching costs, one queries x objects matrix per image, such as `HungarianAssignment().costs`."""

NOBODY = -1  # owner of a query that answers for no object
ROUNDING_GUARD = 1e-6  # sums that are whole or half up to the noise of floating point count as such


@dataclass(frozen=True, slots=True)
class Ownership:
    """What was decided for one image.

    owner: for each query the object it answers for, or -1. claims: for each query how many objects asked for it.
    positives: for each object how many queries it asked for; conflicts may leave it fewer. score_sum: the sum of its
    best qualities. quality: queries x objects.
    """

    owner: NDArray[np.int64]
    claims: NDArray[np.int64]
    positives: NDArray[np.int64]
    score_sum: NDArray[np.float64]
    quality: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class QualityOneToMany:
    """A set of queries for each object of an image; no query answers for two.

    confidence_weight: lambda, 0.4. num_candidates: k, 4; an object's candidates are its k best queries.
    min_positives: N_min, 1. quality_per_positive: tau, 1; the article names it without a value.
    count_rule: "article" rounds half up, "paper" rounds up; at lambda 0.4 they differ by at most one query.
    confidence: "target" = of the object's class (the article's reading), "max" = of the most probable class.
    quality: "difference" = IoU - lambda * confidence; "product" = IoU * (1 - confidence), as in the fork.
    select: "topq" = the best candidates; "hungarian_copies" = one matching in which an object stands as often as it may
    have positives, at most half the queries in all where that leaves one each (the fork).
    iou_min: candidates overlap their object by at least this; 0 = off. With lambda > 0 a background query (IoU 0,
    confidence 0, quality 0) outranks a confident poor box (IoU 0.3, confidence 0.9, quality -0.06): 0.1 prevents it.
    union_one_to_one: the least-cost one-to-one pairs are positives whatever their quality ("topq" only).
    costs: what those pairs and copies are matched by. solver: as in `HungarianAssignment`.
    """

    confidence_weight: float = 0.4
    num_candidates: int = 4
    min_positives: int = 1
    quality_per_positive: float = 1.0
    count_rule: Literal["article", "paper"] = "article"
    confidence: Literal["target", "max"] = "target"
    quality: Literal["difference", "product"] = "difference"
    select: Literal["topq", "hungarian_copies"] = "topq"
    iou_min: float = 0.0
    union_one_to_one: bool = False
    costs: Costs | None = None
    solver: Solver = linear_sum_assignment

    def __post_init__(self) -> None:
        if self.num_candidates < 1 or self.min_positives < 0 or self.quality_per_positive <= 0:
            raise ValueError(
                "expected num_candidates >= 1, min_positives >= 0 and quality_per_positive > 0, got "
                f"{self.num_candidates}, {self.min_positives} and {self.quality_per_positive}; change model.quality"
            )
        if self.union_one_to_one and self.select == "hungarian_copies":
            raise ValueError(
                'expected union_one_to_one with select="topq": copies are matched one to one already; change '
                "model.quality.select"
            )
        if self.costs is None and (self.union_one_to_one or self.select == "hungarian_copies"):
            raise ValueError(
                "expected costs for union_one_to_one and hungarian_copies, got none: pass HungarianAssignment().costs"
            )

    @torch.no_grad()
    def __call__(self, predictions: Predictions, targets: Sequence[Target]) -> Matches:
        """Pairs image by image, sorted by query; padded queries stay out.

        With "topq" every object has a query where there are as many queries as objects. Raises ValueError where an
        existing query's logits or box are not finite.
        """
        return match_together([MatchRequest(self, predictions, targets)])[0]

    @torch.no_grad()
    def decisions(
        self, predictions: Predictions, targets: Sequence[Target]
    ) -> list[tuple[NDArray[np.int64], Ownership, NDArray[np.float64]]]:
        """Of each image the indices of the queries that exist, what was decided about them, and their IoU with the
        objects.
        """
        (images,) = figures_on_host([MatchRequest(self, predictions, targets)])
        return [(image.existing, *self._decided(image.figures)) for image in images]

    def pairs(self, figures: NDArray[Any]) -> Pairs:
        """Who answers for whom in one image, by the `figures` of its queries."""
        ownership, _ = self._decided(figures)
        owned = np.flatnonzero(ownership.owner != NOBODY)
        return owned, ownership.owner[owned]

    def decide(
        self,
        iou: NDArray[np.float64],
        confidence: NDArray[np.float64],
        *,
        cost: NDArray[np.float64] | None = None,
        one_to_one: Pairs | None = None,
    ) -> Ownership:
        """Who owns whom in one image; all matrices are queries x objects.

        cost: what copies are matched by. one_to_one: (queries, objects) that are positives whatever their quality.
        """
        quality = self._quality(iou, confidence)
        queries, objects, rank = self._candidates(quality, iou)
        score_sum = np.zeros(iou.shape[1])
        np.add.at(score_sum, objects, quality[queries, objects])
        positives = self._positives(score_sum, len(iou))
        if self.select == "hungarian_copies":
            positives = _capped(positives, len(iou))
            owner = _matched_with_copies(cost, positives, self.solver)
            claims = (owner != NOBODY).astype(np.int64)
        else:
            claimed = rank < positives[objects]
            claims = np.bincount(queries[claimed], minlength=len(iou))
            owner = _owners(queries[claimed], objects[claimed], quality, iou)
            if one_to_one is not None:
                owner[one_to_one[0]] = one_to_one[1]
            _provide_for_objects_without(owner, quality, iou)
        return Ownership(owner, claims, positives, score_sum, quality)

    def _quality(self, iou: NDArray[np.float64], confidence: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.quality == "product":
            return iou * (1 - confidence)
        return iou - self.confidence_weight * confidence

    def _candidates(
        self, quality: NDArray[np.float64], iou: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Query, object and rank (0 = best) of every object's candidates; of equals the greater IoU, then the lower
        index comes first.
        """
        num_candidates = min(self.num_candidates, len(quality))
        eligible = np.where(iou >= self.iou_min, quality, -np.inf)
        # Only what reaches the k-th best of its column is sorted: at ties that is more than k.
        last = np.partition(eligible, -num_candidates, axis=0)[-num_candidates] if num_candidates else -np.inf
        queries, objects = np.nonzero((eligible >= last) & (eligible > -np.inf))
        # The sort is stable and nonzero's queries ascend, so that among equals the lower index stays first.
        order = np.lexsort((-iou[queries, objects], -quality[queries, objects], objects))
        queries, objects = queries[order], objects[order]
        rank = np.arange(len(objects)) - np.searchsorted(objects, objects)
        kept = rank < num_candidates
        return queries[kept], objects[kept], rank[kept]

    def _positives(self, score_sum: NDArray[np.float64], num_queries: int) -> NDArray[np.int64]:
        expected = score_sum / self.quality_per_positive
        if self.count_rule == "article":
            rounded = np.floor(expected + 0.5 + ROUNDING_GUARD)
        else:
            rounded = np.ceil(expected - ROUNDING_GUARD)
        wanted = np.maximum(rounded, self.min_positives).astype(np.int64)
        return np.minimum(wanted, min(self.num_candidates, num_queries))

    def figures(self, predictions: Predictions, targets: Sequence[Target]) -> list[Float[Tensor, "F Q _"]]:
        """What the decision needs, on the device: IoU, confidence and, where asked for, cost of each image's pairs."""
        images = zip(predictions.logits, predictions.boxes_cxcywh, targets, strict=True)
        figures = [[_iou(boxes, target), self._confidence(logits, target)] for logits, boxes, target in images]
        costs = [] if self.costs is None else self.costs(predictions, targets)
        for of_image, cost in zip(figures, costs, strict=False):
            of_image.append(cost)
        return [torch.stack(of_image) for of_image in figures]

    def _confidence(self, logits: Float[Tensor, "Q K"], target: Target) -> Float[Tensor, "Q M"]:
        score = full_precision(logits).sigmoid()
        if self.confidence == "max":
            return score.amax(dim=1, keepdim=True).expand(-1, len(target))
        return score[:, target.labels]

    def _decided(self, figures: NDArray[Any]) -> tuple[Ownership, NDArray[np.float64]]:
        iou, confidence, *costs = figures.astype(np.float64)
        cost = costs[0] if costs else None
        one_to_one = self.solver(cost) if self.union_one_to_one and cost is not None else None
        return self.decide(iou, confidence, cost=cost, one_to_one=one_to_one), iou


def _iou(boxes_cxcywh: Float[Tensor, "Q 4"], target: Target) -> Float[Tensor, "Q M"]:
    boxes = full_precision(boxes_cxcywh)
    objects = full_precision(target.boxes_cxcywh).to(boxes.dtype)
    return pairwise_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(objects))


def _owners(
    queries: NDArray[np.int64], objects: NDArray[np.int64], quality: NDArray[np.float64], iou: NDArray[np.float64]
) -> NDArray[np.int64]:
    """A query that several objects claim goes to the one with the greatest quality, then IoU, then the lowest index;
    the others get nothing in its place.
    """
    order = np.lexsort((objects, -iou[queries, objects], -quality[queries, objects], queries))
    claimed, first = np.unique(queries[order], return_index=True)
    owner = np.full(len(quality), NOBODY)
    owner[claimed] = objects[order][first]
    return owner


def _provide_for_objects_without(
    owner: NDArray[np.int64], quality: NDArray[np.float64], iou: NDArray[np.float64]
) -> None:
    """Each object without a query takes, in place, the best one that is free, else that its owner can spare."""
    owned = np.bincount(owner[owner != NOBODY], minlength=quality.shape[1])
    for needy in np.flatnonzero(owned == 0):
        free = np.flatnonzero(owner == NOBODY)
        available = free if len(free) else np.flatnonzero(owned[owner] > 1)
        if len(available) == 0:
            return  # fewer queries than objects
        best = available[_best(quality[available, needy], iou[available, needy])]
        if owner[best] != NOBODY:
            owned[owner[best]] -= 1
        owner[best], owned[needy] = needy, 1


def _best(quality: NDArray[np.float64], iou: NDArray[np.float64]) -> int:
    """Index of the greatest quality; of equals the greatest IoU, then the lowest index."""
    return int(np.where(quality == quality.max(), iou, -np.inf).argmax())


def _capped(positives: NDArray[np.int64], num_queries: int) -> NDArray[np.int64]:
    """At most half the queries, shared evenly, but one each."""
    return np.minimum(positives, max(1, num_queries // (2 * max(1, len(positives)))))


def _matched_with_copies(
    cost: NDArray[np.float64] | None, copies: NDArray[np.int64], solver: Solver
) -> NDArray[np.int64]:
    if cost is None:
        raise ValueError("expected the pairs' matching cost for hungarian_copies, got none")
    objects = np.repeat(np.arange(len(copies)), copies)
    queries, columns = solver(cost[:, objects])
    owner = np.full(len(cost), NOBODY)
    owner[queries] = objects[columns]
    return owner
