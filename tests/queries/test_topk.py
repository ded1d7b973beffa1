"""Selection of the best proposals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.queries.topk import TopK
from smidgen.structures import Memory, Proposals, QueryBudget, Tokens


def _memory_and_proposals(logits: torch.Tensor, valid: torch.Tensor) -> tuple[Memory, Proposals]:
    batch, count, _ = logits.shape
    tokens = Tokens(
        torch.zeros(batch, count, 4),
        torch.zeros(batch, count, 4),
        ~valid,
        torch.ones(batch, 1, 2),
        ((1, count),),
        (8,),
    )
    boxes = torch.rand(batch, count, 4)
    return Memory.of(tokens), Proposals(logits, boxes, torch.rand(batch, count, 4), valid)


@given(st.integers(1, 12), st.integers(0, 2**20))
def test_no_better_valid_token_is_left_out(budget: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 10, 3, generator=generator)
    valid = torch.rand(2, 10, generator=generator) > 0.4
    memory, proposals = _memory_and_proposals(logits, valid)
    places = TopK()(memory, proposals, QueryBudget(budget))
    assert places.token_index is not None and places.padding is not None
    score = logits.amax(-1)
    for image in range(2):
        chosen = places.token_index[image][~places.padding[image]]
        assert len(chosen) == min(budget, int(valid[image].sum()))
        assert valid[image, chosen].all()
        rest = valid[image].clone()
        rest[chosen] = False
        assert not rest.any() or len(chosen) == 0 or score[image, rest].max() <= score[image, chosen].min()
        assert score[image, chosen].diff().le(0).all()


def test_first_logit_ranks_for_two_stage_deformable_detr() -> None:
    logits = torch.tensor([[[0.0, 9.0], [1.0, 0.0]]])
    memory, proposals = _memory_and_proposals(logits, torch.ones(1, 2, dtype=torch.bool))
    assert TopK("first")(memory, proposals, QueryBudget(1)).token_index.tolist() == [[1]]
    assert TopK("max")(memory, proposals, QueryBudget(1)).token_index.tolist() == [[0]]


def test_each_image_may_have_its_own_number_of_queries() -> None:
    memory, proposals = _memory_and_proposals(torch.randn(2, 6, 1), torch.ones(2, 6, dtype=torch.bool))
    places = TopK()(memory, proposals, QueryBudget(5, torch.tensor([2, 4])))
    assert places.padding is not None
    assert (~places.padding).sum(1).tolist() == [2, 4]


def test_references_carry_no_gradient_and_predictions_do() -> None:
    logits = torch.randn(1, 4, 2, requires_grad=True)
    memory, proposals = _memory_and_proposals(logits, torch.ones(1, 4, dtype=torch.bool))
    places = TopK()(memory, proposals, QueryBudget(2))
    assert not places.reference.requires_grad
    assert places.predictions is not None and places.predictions.logits.requires_grad


def test_without_proposals_there_is_nothing_to_select() -> None:
    memory, _ = _memory_and_proposals(torch.randn(1, 2, 1), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="ProposalHead"):
        TopK()(memory, None, QueryBudget(1))
