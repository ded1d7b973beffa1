"""Do two detectors say the same of an image? Compared as sets of detections, not tensor by tensor.

A number in a millionth of its value may give two queries of nearly equal score each other's place; every tensor behind
is then different and every detection the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.structures import Detections


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """box: difference of a corner as a share of the image's longer side; score: of scores. share: of detections that
    may have no partner. tie: scores so close to the last one of a list that another detection may stand there instead.
    """

    box: float = 1e-3
    score: float = 1e-3
    share: float = 0.01
    tie: float = 1e-5


@dataclass(frozen=True, slots=True)
class SetDifference:
    """pairs: expected detections with a partner. missing, surplus: expected and found ones without. worst_box,
    worst_score: largest differences within pairs, as in `Tolerance`.
    """

    pairs: int
    missing: int
    surplus: int
    worst_box: float
    worst_score: float

    def within(self, tolerance: Tolerance) -> bool:
        """Whether so few have no partner that the sets count as the same; sets without any detection do not."""
        lonely = self.missing + self.surplus
        return self.pairs > 0 and lonely <= tolerance.share * (2 * self.pairs + lonely)


def difference(expected: Detections, found: Detections, tolerance: Tolerance) -> SetDifference:
    """Compare two answers for one image. A partner has the same class, nearly the same box and nearly the same score.

    At the end of a list nobody is missed, if the other list is as long: another of equal score stands there.
    """
    near, boxes, scores = _nearness(expected, found, tolerance)
    missing = ~near.any(1) & ~_replaced(expected, found, tolerance.tie)
    surplus = ~near.any(0) & ~_replaced(found, expected, tolerance.tie)
    worst = [float(_best_partner(values, near).max()) if near.any() else 0.0 for values in (boxes, scores)]
    return SetDifference(int(near.any(1).sum()), int(missing.sum()), int(surplus.sum()), *worst)


def total(differences: list[SetDifference]) -> SetDifference:
    """Of several images together."""
    return SetDifference(
        sum(each.pairs for each in differences),
        sum(each.missing for each in differences),
        sum(each.surplus for each in differences),
        max(each.worst_box for each in differences),
        max(each.worst_score for each in differences),
    )


def _nearness(
    expected: Detections, found: Detections, tolerance: Tolerance
) -> tuple[Bool[Tensor, "E F"], Float[Tensor, "E F"], Float[Tensor, "E F"]]:
    """Who may be whose partner, and how far boxes and scores are apart."""
    boxes = (expected.boxes_xyxy[:, None] - found.boxes_xyxy).abs().amax(-1) / max(expected.image_hw)
    scores = (expected.scores[:, None] - found.scores).abs()
    same = expected.labels[:, None] == found.labels
    return same & (boxes <= tolerance.box) & (scores <= tolerance.score), boxes, scores


def _best_partner(values: Float[Tensor, "E F"], near: Bool[Tensor, "E F"]) -> Float[Tensor, " paired"]:
    return values.masked_fill(~near, torch.inf).amin(1)[near.any(1)]


def _replaced(detections: Detections, others: Detections, tie: float) -> Bool[Tensor, " n"]:
    """Detections in whose place the other list, which is no shorter, may hold another one."""
    if len(others) < len(detections) or not len(detections):
        return torch.zeros_like(detections.scores, dtype=torch.bool)
    return detections.scores <= detections.scores.min() + tie
