"""An anchor answers for the object that it overlaps most, if by enough; every object gets its best anchor.

Ren et al., "Faster R-CNN", 2015, section 3.1.2 (0.7 and 0.3); Lin et al., "Focal Loss for Dense Object Detection",
2017, section 4 (0.5 and 0.4). As in the official QueryDet code the rescue of an object's best anchors takes only those
that overlap no other object more; unlike in its one-object-at-a-time matcher, an object that overlaps no anchor at all
does not claim every anchor that overlaps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.boxes import pairwise_iou
from smidgen.boxes.answer_matches import BACKGROUND, LEFT_OUT, AnswerMatches
from smidgen.structures import Target

PAIRS_AT_ONCE = 2**21
"""8 MB for each intermediate of the overlap of all anchors with all objects, which at once could take gigabytes."""


@dataclass(frozen=True, kw_only=True)
class AnchorOverlap:
    """IoU >= foreground_iou: positive; < background_iou: background; between: left out.

    low_quality: the anchors whose IoU is an object's maximum, and above 0, answer for it even below foreground_iou,
    unless they overlap another object more. ignore_overlap: share of a background anchor inside an ignore region from
    which on it is left out. Anchors of all levels compete; those in the canvas's padding are background.
    """

    foreground_iou: float = 0.5
    background_iou: float = 0.4
    low_quality: bool = True
    ignore_overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.background_iou <= self.foreground_iou <= 1:
            raise ValueError(
                "expected 0 < background_iou <= foreground_iou <= 1 in the assignment of anchors, got "
                f"{self.background_iou} and {self.foreground_iou}"
            )

    @torch.no_grad()
    def __call__(self, anchors_xyxy: Float[Tensor, "N 4"], target: Target) -> AnswerMatches:
        """Matches of one image's anchors; all boxes in pixels of the network input."""
        if len(target) == 0:
            nobody = torch.full((len(anchors_xyxy),), BACKGROUND, device=anchors_xyxy.device)
            matches = AnswerMatches(nobody)
        else:
            matches = self._matched(anchors_xyxy, target.boxes_xyxy)
        return matches.without_background_in(target.ignore, anchors_xyxy, self.ignore_overlap)

    def _matched(self, anchors_xyxy: Float[Tensor, "N 4"], boxes_xyxy: Float[Tensor, "M 4"]) -> AnswerMatches:
        overlap, nearest, best = _largest_overlaps(anchors_xyxy, boxes_xyxy)
        positive = overlap >= self.foreground_iou
        if self.low_quality:
            positive |= (overlap > 0) & (overlap == best[nearest])
        unclear = (overlap >= self.background_iou) & ~positive
        owner = torch.where(positive, nearest, BACKGROUND)
        return AnswerMatches(owner.masked_fill(unclear, LEFT_OUT))


def _largest_overlaps(
    anchors_xyxy: Float[Tensor, "N 4"], boxes_xyxy: Float[Tensor, "M 4"]
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"], Float[Tensor, " M"]]:
    """For each anchor its largest IoU and the object it has it with (the first of several); for each object its
    largest IoU with any anchor.
    """
    overlaps, nearest, bests = [], [], []
    for some in anchors_xyxy.split(max(1, PAIRS_AT_ONCE // len(boxes_xyxy))):
        iou = pairwise_iou(boxes_xyxy, some)
        largest, index = iou.max(dim=0)
        overlaps.append(largest)
        nearest.append(index)
        bests.append(iou.amax(dim=1))
    return torch.cat(overlaps), torch.cat(nearest), torch.stack(bests).amax(dim=0)
