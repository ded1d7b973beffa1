"""Nested dropout changes how many queries images ask in training, and nothing in evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from smidgen.queries.budget import FixedBudget
from smidgen.queries.nested_dropout import NestedDropout
from smidgen.structures import Memory, QueryBudget, Tokens


def _memory(batch: int) -> Memory:
    content = torch.zeros(batch, 4, 8)
    padding = torch.zeros(batch, 4, dtype=torch.bool)
    return Memory.of(Tokens(content, content, padding, torch.ones(batch, 1, 2), ((2, 2),), (8,)))


class _Counted(nn.Module):
    def forward(self, memory: Memory) -> QueryBudget:
        return QueryBudget(20, torch.tensor([10, 20, 10, 20]))


def _per_image(budget: QueryBudget) -> Tensor:
    assert budget.per_image is not None
    return budget.per_image


def test_evaluation_asks_what_was_counted() -> None:
    budget = NestedDropout(_Counted(), (10, 20, 40), share=1.0).eval()(_memory(4))
    assert budget.size == 20 and _per_image(budget).tolist() == [10, 20, 10, 20]


def test_in_training_every_size_occurs_and_the_rows_hold_the_largest_of_them() -> None:
    torch.manual_seed(0)
    budget = NestedDropout(FixedBudget(20), (10, 20, 40), share=1.0)(_memory(64))
    assert set(_per_image(budget).tolist()) == {10, 20, 40} and budget.size == 40


def test_images_that_do_not_draw_keep_their_count() -> None:
    torch.manual_seed(0)
    drawing = NestedDropout(_Counted(), (40,), share=0.5)
    answers = torch.stack([_per_image(drawing(_memory(4))) for _ in range(50)])
    assert set(answers[:, 0].tolist()) == {10, 40} and set(answers[:, 1].tolist()) == {20, 40}


def test_no_rows_are_made_that_no_image_uses() -> None:
    torch.manual_seed(0)
    assert NestedDropout(FixedBudget(20), (10,), share=1.0)(_memory(2)).size == 20


@pytest.mark.parametrize(("sizes", "share"), [((), 0.5), ((0, 3), 0.5), ((3,), 1.5)])
def test_impossible_settings_are_refused(sizes: tuple[int, ...], share: float) -> None:
    with pytest.raises(ValueError, match="change model"):
        NestedDropout(FixedBudget(3), sizes, share)
