"""Which objects detections find, by COCO's matching: the best-scored detection first, each to its best free object.

COCO's loop over detections is a serial dictatorship: objects all prefer the better-scored detection. So it is also the
one stable matching, and the deferred acceptance of Gale and Shapley ("College Admissions and the Stability of
Marriage", 1962) reaches it with all detections asking at once, in about as many rounds as objects overlap one box.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NOBODY = -1


def greedy_matches(
    overlaps: Float[Tensor, "D M"], scores: Float[Tensor, " D"], allowed: Bool[Tensor, "D M"], iou: float = 0.5
) -> Int[Tensor, " M"]:
    """Per object, the index of the detection that finds it, or `NOBODY`.

    overlaps: IoU of detections and objects. allowed: pairs that may match (the same class). Of equal scores the earlier
    detection comes first, of equal overlaps the later object, as in pycocotools.
    """
    if not overlaps.numel():
        return torch.full((overlaps.shape[1],), NOBODY, device=overlaps.device)
    order = scores.argsort(descending=True, stable=True)
    # As in pycocotools: a threshold of 1 is met by a hair less.
    possible = (allowed & (overlaps >= min(iou, 1 - 1e-10)))[order]
    owner, wished = _settled(overlaps[order].masked_fill(~possible, -1.0))
    return torch.where(wished, order[owner.clamp(max=len(order) - 1)], NOBODY)


def _settled(wishes: Float[Tensor, "D M"]) -> tuple[Int[Tensor, " M"], Bool[Tensor, " M"]]:
    """Rank of each object's detection, and whether it has one. wishes: best rank first, negative = impossible."""
    ranks = torch.arange(len(wishes), device=wishes.device)
    none = len(wishes)
    while True:
        # The last of equal maxima.
        best, place = wishes.flip(1).max(dim=1)
        asked = torch.where(best >= 0, wishes.shape[1] - 1 - place, wishes.shape[1])
        owner = torch.full((wishes.shape[1] + 1,), none, device=wishes.device)
        owner = owner.scatter_reduce(0, asked, ranks, "amin")
        refused = (owner[asked] != ranks) & (best >= 0)
        if not refused.any():
            return owner[:-1], owner[:-1] < none
        wishes[ranks[refused], asked[refused]] = -1.0
