"""In training some images ask fewer or more queries than they were counted for, so that every prefix of rows learns.

Rippel, Gelbart and Adams, "Learning Ordered Representations with Nested Dropout", 2014: dropping all units behind a
random one makes the first ones carry most. Here the units are the rows of learned or pattern-mixed query content: with
a counted budget an image uses the first rows only, and rows that few images reach would hardly be trained. Ours; the
articles on counted budgets (DQ-DETR, LSQ-DETR) and on patterns (PaQ-DETR) do not meet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smidgen.structures import Memory, QueryBudget, send


class NestedDropout(nn.Module):
    """`budget`'s answer in evaluation; in training a share of the images draws one of `sizes` instead.

    sizes: numbers of queries to draw from, equally likely. share: probability that an image draws.
    """

    def __init__(self, budget: nn.Module, sizes: Sequence[int], share: float = 0.5) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"expected positive numbers of queries to draw from, got {sizes}; change model.budgets")
        if not 0 <= share <= 1:
            raise ValueError(f"expected a share of images in [0, 1], got {share}; change model.nested_dropout")
        self.budget, self.sizes, self.share = budget, tuple(sizes), share

    def forward(self, memory: Memory) -> QueryBudget:
        """The budget of each image."""
        budget: QueryBudget = self.budget(memory)
        if not self.training or self.share == 0:
            return budget
        return self._with_drawn(budget, memory.tokens.content)

    def _with_drawn(self, budget: QueryBudget, content: Tensor) -> QueryBudget:
        # Drawn on the host, where the largest is known without waiting for a device.
        batch = content.shape[0]
        draws = torch.rand(batch) < self.share
        drawn = torch.tensor(self.sizes)[torch.randint(len(self.sizes), (batch,))]
        size = max(budget.size, int(drawn.masked_fill(~draws, 0).max()))
        counted = torch.full((batch,), budget.size) if budget.per_image is None else budget.per_image
        drawing, number, counted = (send(each, content.device) for each in (draws, drawn, counted))
        return QueryBudget(size, torch.where(drawing, number, counted))
