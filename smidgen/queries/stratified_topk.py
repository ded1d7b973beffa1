"""Each level of the pyramid gets its share of the queries, whatever the scores of the other levels.

LSQ-DETR (layer-wise stratified query selection on DQ-DETR; official code, 2026): the fewer objects an image holds, the
more queries start at stride 8. One common ranking lets the level with the largest scores take everything. The official
code truncates shares, lets a level that is too short return fewer queries than asked for, and selects padded tokens;
here shares always add up to the budget and a short level hands the rest on (`redistribute`, `skip_invalid`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from smidgen.structures import Memory, Places, Proposals, QueryBudget

PAPER_QUOTAS: Mapping[int, tuple[float, ...]] = {
    300: (0.6, 0.4),
    500: (0.85, 0.15),
    900: (0.9, 0.1),
    1500: (0.95, 0.05),
}

_WHOLE = 1_000_000  # shares are counted in millionths: whole numbers add up on every device


class StratifiedTopK(nn.Module):
    """Keep the best tokens of every level, finest level first, best first inside a level.

    quotas: budget -> share of each level, summing to 1 (levels that are not named get nothing). A budget that is not in
    the table uses the nearest larger one's shares, or the largest one's. skip_invalid: never select padded or invalid
    tokens. redistribute: what a short level cannot use goes to the other levels with a share, in proportion, and then
    to the finest of the rest.
    """

    budgets: Tensor
    shares: Tensor

    def __init__(
        self,
        quotas: Mapping[int, Sequence[float]] = PAPER_QUOTAS,
        skip_invalid: bool = True,
        redistribute: bool = True,
    ) -> None:
        super().__init__()
        self.skip_invalid, self.redistribute = skip_invalid, redistribute
        check_quotas(quotas)
        self.table = {budget: _millionths(quotas[budget]) for budget in sorted(quotas)}
        self.num_named = max(map(len, self.table.values()))
        padded = [row + [0] * (self.num_named - len(row)) for row in self.table.values()]
        self.register_buffer("budgets", torch.tensor(list(self.table)), persistent=False)
        self.register_buffer("shares", torch.tensor(padded), persistent=False)

    def forward(self, memory: Memory, proposals: Proposals | None, budget: QueryBudget) -> Places:
        """Places whose references are detached; their predictions and content are not."""
        if proposals is None:
            raise ValueError("expected proposals to select from, got none: give the detector a ProposalHead")
        tokens = memory.proposal_tokens
        sizes = [rows * columns for rows, columns in tokens.shapes]
        asked = proposals.valid.new_full((proposals.valid.shape[0],), budget.size, dtype=torch.long)
        asked = asked if budget.per_image is None else budget.per_image
        taken = self.allocate(asked, self._available(proposals, sizes))
        index, padding = _best_of_levels(self._score(proposals), sizes, taken, self._rows(budget, sizes))
        missing = padding if self.skip_invalid or budget.per_image is not None else None
        return Places.of_tokens(proposals, tokens, index, missing)

    def allocate(self, budget: Int[Tensor, " B"], available: Int[Tensor, "B L"]) -> Int[Tensor, "B L"]:
        """How many queries each level gives: at most what is available, together min(budget, all available)."""
        shares = self._shares(budget, available.shape[1])
        if not self.redistribute:
            return (budget[:, None] * shares // _WHOLE).minimum(available)
        taken = torch.zeros_like(available)
        for _ in range(self.num_named):  # every round ends it or fills a level that has a share
            spare = available - taken
            rest = budget - taken.sum(dim=1)
            taken = taken + apportion(rest, shares * (spare > 0)).minimum(spare)
        spare = available - taken
        rest = (budget - taken.sum(dim=1))[:, None]
        return taken + (rest - (spare.cumsum(dim=1) - spare)).clamp(min=0).minimum(spare)

    def _shares(self, budget: Int[Tensor, " B"], num_levels: int) -> Int[Tensor, "B L"]:
        if num_levels < self.num_named:
            raise ValueError(_too_many_levels(self.num_named, num_levels))
        row = (self.budgets < budget[:, None]).sum(dim=1).clamp(max=len(self.budgets) - 1)
        return nn.functional.pad(self.shares[row], (0, num_levels - self.num_named))

    def _available(self, proposals: Proposals, sizes: Sequence[int]) -> Int[Tensor, "B L"]:
        usable = proposals.valid if self.skip_invalid else torch.ones_like(proposals.valid)
        return torch.stack([level.sum(dim=1) for level in usable.split(list(sizes), dim=1)], dim=1)

    def _score(self, proposals: Proposals) -> Tensor:
        score = proposals.logits.amax(dim=-1)
        return score.masked_fill(~proposals.valid, -torch.inf) if self.skip_invalid else score

    def _rows(self, budget: QueryBudget, sizes: Sequence[int]) -> int:
        """Rows for the batch, known without a look at the device."""
        if self.redistribute or budget.per_image is not None:
            return min(budget.size, sum(sizes))
        row = next((row for known, row in self.table.items() if known >= budget.size), [*self.table.values()][-1])
        return sum(min(budget.size * share // _WHOLE, size) for share, size in zip(row, sizes, strict=False))


def check_quotas(quotas: Mapping[int, Sequence[float]], num_levels: int | None = None) -> None:
    """Raise ValueError unless the table names at least one budget, its shares sum to 1, and no row names more levels
    than the model has (None = not known).
    """
    if not quotas or min(quotas) < 1:
        raise ValueError(
            f"expected shares for at least one budget, all of 1 query or more, got {list(quotas)}; change model.quotas"
        )
    for shares in quotas.values():
        _millionths(shares)
        if num_levels is not None and len(shares) > num_levels:
            raise ValueError(_too_many_levels(len(shares), num_levels))


def folded(quotas: Mapping[int, Sequence[float]], num_levels: int) -> dict[int, tuple[float, ...]]:
    """The table for a model of `num_levels` levels: what it gives to missing ones goes to the coarsest there is."""
    last = num_levels - 1
    return {
        budget: (*shares[:last], sum(shares[last:])) if len(shares) > num_levels else tuple(shares)
        for budget, shares in quotas.items()
    }


def apportion(total: Int[Tensor, " B"], weights: Int[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Whole numbers in proportion to the weights that add up to the total (largest remainder method; of equal
    remainders the finer level's counts). Nothing where all weights are 0.
    """
    product = total[:, None] * weights
    whole = weights.sum(dim=1, keepdim=True).clamp(min=1)
    parts = product // whole
    # No two keys are equal, since runtimes of exported files do not promise a stable sort.
    key = product % whole * weights.shape[1] - torch.arange(weights.shape[1], device=weights.device)
    rank = key.argsort(dim=1, descending=True).argsort(dim=1)
    rest = total[:, None] - parts.sum(dim=1, keepdim=True)
    return parts + ((rank < rest) & (weights > 0))


def _best_of_levels(
    score: Tensor, sizes: Sequence[int], taken: Int[Tensor, "B L"], num_rows: int
) -> tuple[Int[Tensor, "B Q"], Bool[Tensor, "B Q"]]:
    """Indices of each image's `taken` best tokens of every level, one level after the other; True in rows beyond."""
    first_row, start = taken.cumsum(dim=1) - taken, 0
    # What an image does not take goes to a row behind the last, which is cut off.
    index = taken.new_zeros((score.shape[0], num_rows + 1))
    for level, size in enumerate(sizes):
        best = score[:, start : start + size].topk(min(num_rows, size), dim=1).indices
        rank = torch.arange(best.shape[1], device=best.device)
        row = torch.where(rank < taken[:, level, None], first_row[:, level, None] + rank, num_rows)
        index = index.scatter(1, row, best + start)
        start += size
    return index[:, :num_rows], torch.arange(num_rows, device=index.device) >= taken.sum(dim=1, keepdim=True)


def _too_many_levels(named: int, num_levels: int) -> str:
    return f"expected shares for at most {num_levels} levels, got {named}; change model.quotas or model.num_levels"


def _millionths(shares: Sequence[float]) -> list[int]:
    if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
        raise ValueError(
            f"expected the shares of the levels to be at least 0 and to sum to 1, got {list(shares)}; "
            "change model.quotas"
        )
    row = [round(share * _WHOLE / sum(shares)) for share in shares]
    row[row.index(max(row))] += _WHOLE - sum(row)
    return row
