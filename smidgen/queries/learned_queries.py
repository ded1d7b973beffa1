"""Queries that start at the same learned places in every image (one-stage detectors)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.nn.initialize import xavier_linear
from smidgen.structures import Memory, Places, Proposals, QueryBudget


class LearnedPoints(nn.Module):
    """One-stage Deformable DETR: a table of 2C numbers per query; the first half is its position, from which a linear
    layer reads the reference point; the second half is its content."""

    def __init__(self, num_queries: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_queries, 2 * width)
        self.reference = xavier_linear(width, 2)

    def forward(self, memory: Memory, proposals: Proposals | None, budget: QueryBudget) -> Places:
        """Points (cx, cy) in [0, 1], not detached: they are learned through the decoder."""
        rows = _rows(self.table.weight, memory, budget)
        position, content = rows.chunk(2, dim=-1)
        return Places(reference=self.reference(position).sigmoid(), position=position, content=content)


class LearnedBoxes(nn.Module):
    """DAB- and DN-DETR (one-stage): a learned box per query, kept as logits; starts at uniform centers and sizes."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        self.logits = nn.Embedding(num_queries, 4)
        with torch.no_grad():
            self.logits.weight.copy_(torch.logit(torch.rand(num_queries, 4)).clamp(-3.0, 3.0))

    def forward(self, memory: Memory, proposals: Proposals | None, budget: QueryBudget) -> Places:
        """Boxes (cx, cy, w, h) in [0, 1], not detached."""
        return Places(reference=_rows(self.logits.weight, memory, budget).sigmoid())


def _rows(table: Float[Tensor, "Q C"], memory: Memory, budget: QueryBudget) -> Float[Tensor, "B q C"]:
    if budget.size > len(table):
        raise ValueError(f"expected a budget of at most {len(table)} learned queries, got {budget.size}")
    return table[: budget.size].expand(memory.tokens.content.shape[0], -1, -1)
