"""How many queries an image gets: the same number for every image."""

from __future__ import annotations

from torch import nn

from smidgen.structures import Memory, QueryBudget


class FixedBudget(nn.Module):
    """`num_queries` for every image, whatever it holds."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        if num_queries < 1:
            raise ValueError(f"expected at least one query, got {num_queries}; change model.num_queries")
        self.num_queries = num_queries

    def forward(self, memory: Memory) -> QueryBudget:
        """The budget; the memory is not read."""
        return QueryBudget(self.num_queries)
