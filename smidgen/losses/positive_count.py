"""What the sums of a dense loss are divided by: how many answers stand for an object, now or lately.

A count of one small batch jumps from step to step, and with it the loss; detectron2's RetinaNet, and after it the
official QueryDet code, divide by a running mean instead. There it is a plain number of each process that no checkpoint
holds; here it is a buffer, and a mean over processes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.boxes.answer_matches import AnswerMatches
from smidgen.nn.process_mean import process_mean


class RunningPositiveCount(nn.Module):
    """Exponential mean of the number of positives of a batch over all levels, at least 1.

    initial: 100. momentum: share of the past, 0.9. In training the batch at hand is taken in before use; evaluation
    leaves the count as it is.
    """

    count: Tensor

    def __init__(self, initial: float = 100.0, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("count", torch.tensor(initial))

    @torch.no_grad()
    def forward(self, matches: AnswerMatches) -> Float[Tensor, ""]:
        """matches: of all images of the batch."""
        if self.training:
            self.count.lerp_(process_mean(matches.positive.sum()).to(self.count.dtype), 1 - self.momentum)
        return self.count.clamp(min=1.0)


def positive_count(matches: AnswerMatches) -> Float[Tensor, ""]:
    """Number of positives of this batch, at least 1 (FCOS)."""
    return process_mean(matches.positive.sum()).clamp(min=1.0)


def counted_count(matches: AnswerMatches) -> Float[Tensor, ""]:
    """Number of answers of this batch that are judged: the sampled anchors of a region proposal network."""
    return process_mean(matches.counted.sum()).clamp(min=1.0)
