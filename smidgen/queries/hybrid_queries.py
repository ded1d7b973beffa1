"""In training, further queries at the next best places, matched with every object several times over.

Jia et al., "DETRs with Hybrid Matching" (H-DETR), CVPR 2023, section 3.2, hybrid branch scheme: the best n proposals
feed the one-to-one part, the next 1,500 a one-to-many part with learned content of its own, whose targets are repeated
6 times; the two do not attend to each other, and the branch is gone at inference. The official code ranks once for
n + 1,500 queries and fails where an image has fewer tokens; here the branch takes the best tokens that the selection
left, which is the same for a selection of the best, works with any other, and gives small images fewer queries.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from smidgen.structures import Memory, Places, Proposals, Queries, QueryGroup


class Content(Protocol):
    """What queries at these places contain."""

    def __call__(self, memory: Memory, places: Places) -> Float[Tensor, "B Q C"]: ...


class HybridQueries(nn.Module):
    """A one-to-many group of up to `num_queries` queries at the best tokens that were not selected.

    content: what they contain, such as `LearnedContent(num_queries, width)`. target_repeats: how often each object
    stands among the group's targets; the queries themselves are not repeated. score: a token's "max" class logit, or
    its "first" one (H-Deformable DETR), as in the selection. skip_invalid: never ask at padded or invalid tokens; as
    officially they compete (parity). Either way an image with too few tokens gets padding rows.
    """

    def __init__(
        self,
        content: Content,
        num_queries: int = 1500,
        target_repeats: int = 6,
        score: Literal["max", "first"] = "max",
        skip_invalid: bool = True,
    ) -> None:
        super().__init__()
        if num_queries < 1 or target_repeats < 1:
            raise ValueError(
                f"expected at least one hybrid query and one repeat, got {num_queries} and {target_repeats}"
            )
        self.content, self.num_queries, self.target_repeats = content, num_queries, target_repeats
        self.score, self.skip_invalid = score, skip_invalid

    def forward(self, memory: Memory, proposals: Proposals | None, places: Places) -> Queries:
        """Queries best first; their references are detached. places: what the selection took."""
        if proposals is None or places.token_index is None:
            raise ValueError("expected places selected from proposals, got learned ones: train without hybrid queries")
        index, padding = self._next_best(proposals, places.token_index, places.padding)
        further = Places.of_tokens(proposals, memory.proposal_tokens, index, padding)
        content = self.content(memory, further)
        group = QueryGroup("one_to_many", content.shape[1], target_repeats=self.target_repeats)
        return Queries(
            content, further.reference, None, further.token_index, further.level, further.padding, groups=(group,)
        )

    def _next_best(
        self, proposals: Proposals, taken: Int[Tensor, "B Q"], absent: Bool[Tensor, "B Q"] | None
    ) -> tuple[Int[Tensor, "B R"], Bool[Tensor, "B R"]]:
        score = proposals.logits.amax(dim=-1) if self.score == "max" else proposals.logits[..., 0]
        eligible = _left(score.shape[1], taken, absent)
        if self.skip_invalid:
            eligible = eligible & proposals.valid
        ranked = score.masked_fill(~eligible, -torch.inf)
        index = ranked.topk(min(self.num_queries, score.shape[1]), dim=1).indices
        return index, ~eligible.gather(1, index)


def _left(
    num_tokens: int, taken: Int[Tensor, "B Q"], absent: Bool[Tensor, "B Q"] | None
) -> Bool[Tensor, "B {num_tokens}"]:
    """True at the tokens that no query of the selection asks about."""
    # Rows that do not exist point behind the last token: their index says nothing and may stand elsewhere, too.
    index = taken if absent is None else taken.masked_fill(absent, num_tokens)
    left = torch.ones((len(taken), num_tokens + 1), dtype=torch.bool, device=taken.device)
    return left.scatter(1, index, False)[:, :num_tokens]
