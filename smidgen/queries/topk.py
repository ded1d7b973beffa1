"""The decoder is asked where the proposals score best over all levels together."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from smidgen.structures import Memory, Places, Predictions, Proposals, QueryBudget


class TopK(nn.Module):
    """Keep the `budget` best tokens, best first.

    score: a token's "max" class logit (DINO, DAB), or its "first" logit (two-stage Deformable DETR, whose proposals are
    trained as object / no object on class 0). supervise: which proposals the loss sees, the "selected" or "all" tokens.
    skip_invalid: never select padded or invalid tokens; an image with fewer valid tokens than the budget gets padding
    rows. The official codes let them compete (parity).
    """

    def __init__(
        self,
        score: Literal["max", "first"] = "max",
        supervise: Literal["selected", "all"] = "selected",
        skip_invalid: bool = True,
    ) -> None:
        super().__init__()
        self.score, self.supervise, self.skip_invalid = score, supervise, skip_invalid

    def forward(self, memory: Memory, proposals: Proposals | None, budget: QueryBudget) -> Places:
        """Places whose references are detached; their predictions and content are not."""
        if proposals is None:
            raise ValueError("expected proposals to select from, got none: give the detector a ProposalHead")
        score = proposals.logits.amax(dim=-1) if self.score == "max" else proposals.logits[..., 0]
        if self.skip_invalid:
            score = score.masked_fill(~proposals.valid, -torch.inf)
        index = score.topk(min(budget.size, score.shape[1]), dim=1).indices
        padding = ~proposals.valid.gather(1, index) if self.skip_invalid else None
        if budget.per_image is not None:
            surplus = torch.arange(index.shape[1], device=index.device) >= budget.per_image[:, None]
            padding = surplus if padding is None else padding | surplus
        places = Places.of_tokens(proposals, memory.proposal_tokens, index, padding)
        return places if self.supervise == "selected" else replace(places, predictions=self._every(proposals))

    def _every(self, proposals: Proposals) -> Predictions:
        padding = ~proposals.valid if self.skip_invalid else None
        return Predictions(proposals.logits, proposals.boxes_cxcywh, padding)
