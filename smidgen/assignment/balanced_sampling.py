"""Few answers of each image are judged, half of them positive at most: background would drown the objects otherwise.

Ren et al., "Faster R-CNN", 2015, section 3.1.3: 256 anchors of an image, up to half of them positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from smidgen.boxes.answer_matches import AnswerMatches


@dataclass(frozen=True, kw_only=True)
class BalancedSampling:
    """number: answers of an image that are judged, fewer where there are fewer. positive_share: of them at most; places
    that no positive takes go to background.
    """

    number: int = 256
    positive_share: float = 0.5

    @torch.no_grad()
    def __call__(self, matches: AnswerMatches, generator: torch.Generator | None = None) -> AnswerMatches:
        """One image's matches, all but a random choice left out.

        generator: of the random numbers, on the device of the matches; None = torch's own.
        """
        device = matches.target.device
        drawn = torch.rand(matches.target.shape, device=device, generator=generator)
        positive = matches.positive & (_rank(drawn, matches.positive) < int(self.number * self.positive_share))
        background = _rank(drawn, matches.background) < self.number - positive.sum()
        return matches.without(~positive & ~(background & matches.background))


def _rank(drawn: Tensor, among: Bool[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Position of each value among those that take part, in ascending order; the others come behind."""
    order = drawn.masked_fill(~among, 2.0).argsort()
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
