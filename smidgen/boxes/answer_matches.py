"""Which object each answer of a dense head answers for: an anchor, a point or a proposal, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.boxes.overlap import pairwise_iof
from smidgen.structures import Matches, Target

BACKGROUND = -1
LEFT_OUT = -2


@dataclass(frozen=True, slots=True)
class AnswerMatches:
    """target: index of the object in its image, `BACKGROUND` (-1) where the answer should be that nothing is there, or
    `LEFT_OUT` (-2) where it is not judged. Of one image, or of B images.
    """

    target: Int[Tensor, "*batch N"]

    @staticmethod
    def stack(images: Sequence[AnswerMatches]) -> AnswerMatches:
        """One row for each image."""
        return AnswerMatches(torch.stack([image.target for image in images]))

    @property
    def positive(self) -> Bool[Tensor, "*batch N"]:
        """Answers for an object."""
        return self.target >= 0

    @property
    def background(self) -> Bool[Tensor, "*batch N"]:
        """Answers that should be that nothing is there."""
        return self.target == BACKGROUND

    @property
    def counted(self) -> Bool[Tensor, "*batch N"]:
        """Answers that are judged at all."""
        return self.target != LEFT_OUT

    def labels(self, targets: Sequence[Target], num_classes: int) -> Int[Tensor, "B N"]:
        """Class of each answer of a batch: its object's, `num_classes` for background, -1 where left out."""
        rows = []
        for owner, target in zip(self.target, targets, strict=True):
            # The last two entries stand where -2 and -1 point.
            others = target.labels.new_tensor([-1, num_classes])
            rows.append(torch.cat([target.labels, others])[owner])
        return torch.stack(rows)

    def without(self, left_out: Bool[Tensor, "*batch N"]) -> AnswerMatches:
        """Further answers left out."""
        return replace(self, target=self.target.masked_fill(left_out, LEFT_OUT))

    def without_background_in(
        self, regions_xyxy: Float[Tensor, "R 4"], anchors_xyxy: Float[Tensor, "N 4"], share: float
    ) -> AnswerMatches:
        """Background anchors are left out that lie to at least this share of their area in one of the regions: whether
        something real is there nobody knows.
        """
        inside = torch.zeros_like(self.background)
        # Regions are few and anchors many: one after the other needs the least memory.
        for region in regions_xyxy[:, None]:
            inside |= pairwise_iof(anchors_xyxy, region)[:, 0] >= share
        return self.without(inside & self.background)

    def pairs(self) -> Matches:
        """Every positive answer of a batch with its object. On a GPU the host waits for their number."""
        image, answer = self.positive.nonzero(as_tuple=True)
        return Matches(image, answer, self.target[image, answer])
