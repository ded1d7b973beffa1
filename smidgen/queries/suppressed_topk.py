"""Neighboring cells rarely ask about two objects: of the best tokens, direct neighbors of a better one are dropped.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024,
redundancy removal: non-maximum suppression, blind to classes, of boxes of 2 x 2 cells around the tokens of one level.
Cells side by side overlap by 1/3 and diagonal ones by 1/7, so that at the threshold of 0.3 a token goes if a kept token
of its level is directly above, below, left or right of it. The official code cuts all images of a batch to the fewest
survivors, and its decoder then fails for want of queries; here suppressed candidates fill up (fill=False restores the
cut).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from smidgen.boxes.suppression import suppress
from smidgen.structures import Memory, Places, Proposals, QueryBudget


class SuppressedTopK(nn.Module):
    """Keep the `budget` best tokens by class logit that no better token of their level suppresses.

    iou_threshold: boxes overlapping a kept one by more go. candidates_per_query: tokens per query that compete at all.
    skip_invalid: padded and invalid tokens are no candidates, and an image with too few gets padding rows (officially
    they compete). fill: rows left over go to the suppressed candidates, best first.
    """

    def __init__(
        self,
        iou_threshold: float = 0.3,
        candidates_per_query: int = 4,
        skip_invalid: bool = True,
        fill: bool = True,
    ) -> None:
        super().__init__()
        if candidates_per_query < 1:
            raise ValueError(f"expected at least one candidate per query, got {candidates_per_query}")
        self.iou_threshold, self.candidates_per_query = iou_threshold, candidates_per_query
        self.skip_invalid, self.fill = skip_invalid, fill

    def forward(self, memory: Memory, proposals: Proposals | None, budget: QueryBudget) -> Places:
        """Survivors, best first, then what fills up, best first; references are detached, predictions are not."""
        if proposals is None:
            raise ValueError("expected proposals to select from, got none: give the detector a ProposalHead")
        tokens = memory.proposal_tokens
        candidates, eligible = self.candidates(proposals, budget)
        kept = self.survivors(candidates, tokens.shapes) & eligible
        rows = min(budget.size, candidates.shape[1])
        if not self.fill:
            rows = min(rows, int(kept.sum(dim=1).min()))
        # Candidates are in order already: survivors come first and the ineligible last, each in that order. No two
        # keys are equal, since runtimes of exported files do not promise a stable sort.
        place = torch.arange(kept.shape[1], device=kept.device)
        order = ((2 - kept.int() - eligible.int()) * kept.shape[1] + place).argsort(dim=1)[:, :rows]
        index, padding = candidates.gather(1, order), self._padding(eligible.gather(1, order), budget)
        return Places.of_tokens(proposals, tokens, index, padding)

    def candidates(self, proposals: Proposals, budget: QueryBudget) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
        """The tokens that compete, best first, and which of those places the image may use."""
        score = proposals.logits.amax(dim=-1)
        if self.skip_invalid:
            score = score.masked_fill(~proposals.valid, -torch.inf)
        index = score.topk(min(self.candidates_per_query * budget.size, score.shape[1]), dim=1).indices
        eligible = proposals.valid.gather(1, index) if self.skip_invalid else torch.ones_like(index, dtype=torch.bool)
        if budget.per_image is not None:
            # An image's own number, not the batch's, says how many of its tokens compete.
            own = self.candidates_per_query * budget.per_image
            eligible = eligible & (torch.arange(index.shape[1], device=index.device) < own[:, None])
        return index, eligible

    @torch.no_grad()
    def survivors(self, candidates: Int[Tensor, "B M"], shapes: Sequence[tuple[int, int]]) -> Bool[Tensor, "B M"]:
        """Which candidates, given best first, no earlier survivor of their level suppresses."""
        cells = _cells(shapes, candidates.device)[candidates]
        boxes = torch.cat([cells - 1, cells + 1], dim=-1)
        # The order itself is the score, so that ties are broken alike everywhere.
        score = torch.arange(candidates.shape[1], 0, -1, device=boxes.device, dtype=boxes.dtype)
        same_class = torch.zeros_like(candidates)
        kept: Tensor = suppress(boxes, score.expand(boxes.shape[0], -1), same_class, 1, self.iou_threshold)
        return kept

    def _padding(self, eligible: Bool[Tensor, "B Q"], budget: QueryBudget) -> Bool[Tensor, "B Q"] | None:
        if budget.per_image is None:
            return ~eligible if self.skip_invalid else None
        surplus = torch.arange(eligible.shape[1], device=eligible.device) >= budget.per_image[:, None]
        return surplus | ~eligible


def _cells(shapes: Sequence[tuple[int, int]], device: torch.device) -> Float[Tensor, "N 2"]:
    """(x, y) of every token in cells of its own level; levels lie side by side, too far apart to overlap."""
    apart = max(columns for _, columns in shapes) + 2
    cells = []
    for level, (rows, columns) in enumerate(shapes):
        x = torch.arange(columns, device=device, dtype=torch.float32) + level * apart
        y = torch.arange(rows, device=device, dtype=torch.float32)
        cells.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1))
    return torch.cat(cells)
