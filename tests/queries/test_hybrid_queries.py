"""The one-to-many branch asks where the selection stopped."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.queries.content import LearnedContent
from smidgen.queries.hybrid_queries import HybridQueries
from smidgen.queries.topk import TopK
from smidgen.structures import Memory, Places, Proposals, Queries, QueryBudget, QueryGroup, Tokens

NUM_TOKENS, WIDTH = 10, 4


def _memory_and_proposals(seed: int, share_valid: float = 0.8) -> tuple[Memory, Proposals]:
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(2, NUM_TOKENS, WIDTH, generator=generator)
    valid = torch.rand(2, NUM_TOKENS, generator=generator) < share_valid
    tokens = Tokens(content, content, ~valid, torch.ones(2, 1, 2), ((2, 5),), (8,))
    logits = torch.randn(2, NUM_TOKENS, 3, generator=generator)
    return Memory.of(tokens), Proposals(logits, torch.rand(2, NUM_TOKENS, 4, generator=generator), content, valid)


def _branch(num_queries: int, **settings: object) -> HybridQueries:
    return HybridQueries(LearnedContent(num_queries, WIDTH), num_queries, **settings)


def _asked(index: torch.Tensor, padding: torch.Tensor | None) -> list[list[int]]:
    """The tokens that queries ask about, image by image."""
    present = torch.ones_like(index, dtype=torch.bool) if padding is None else ~padding
    return [row[exists].tolist() for row, exists in zip(index, present, strict=True)]


def _asked_by(value: Places | Queries) -> list[list[int]]:
    return _asked(value.token_index, value.padding)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000), st.sampled_from(["max", "first"]))
def test_selection_and_branch_together_are_one_ranking_cut_in_two(num_selected, num_more, seed, score) -> None:
    memory, proposals = _memory_and_proposals(seed)
    select = TopK(score=score)
    places = select(memory, proposals, QueryBudget(num_selected))
    branch = _branch(num_more, score=score)(memory, proposals, places)
    whole = select(memory, proposals, QueryBudget(num_selected + num_more))
    for first, then, ranked in zip(_asked_by(places), _asked_by(branch), _asked_by(whole), strict=True):
        assert first + then == ranked


@given(st.integers(0, 10_000))
def test_an_image_whose_own_budget_is_smaller_leaves_more_to_the_branch(seed) -> None:
    memory, proposals = _memory_and_proposals(seed, share_valid=1.0)
    places = TopK()(memory, proposals, QueryBudget(6, torch.tensor([2, 6])))
    branch = _branch(NUM_TOKENS)(memory, proposals, places)
    assert [len(tokens) for tokens in _asked_by(branch)] == [8, 4]
    for first, then in zip(_asked_by(places), _asked_by(branch), strict=True):
        assert sorted(first + then) == list(range(NUM_TOKENS))


@pytest.mark.parametrize("num_selected", [4, 50])
def test_an_image_with_too_few_tokens_gets_padding_rows_and_no_duplicates(num_selected) -> None:
    memory, proposals = _memory_and_proposals(0)
    places = TopK()(memory, proposals, QueryBudget(num_selected))
    queries = _branch(1500)(memory, proposals, places)
    for first, then, valid in zip(_asked_by(places), _asked_by(queries), proposals.valid, strict=True):
        assert sorted(first + then) == valid.nonzero()[:, 0].tolist()
    assert queries.content.isfinite().all() and queries.reference.isfinite().all()


def test_officially_invalid_tokens_compete_but_never_twice() -> None:
    memory, proposals = _memory_and_proposals(0)
    places = TopK(skip_invalid=False)(memory, proposals, QueryBudget(4))
    queries = _branch(1500, skip_invalid=False)(memory, proposals, places)
    for first, then in zip(_asked_by(places), _asked_by(queries), strict=True):
        assert sorted(first + then) == list(range(NUM_TOKENS))


def test_content_is_learned_and_references_are_detached_proposals() -> None:
    memory, proposals = _memory_and_proposals(0, share_valid=1.0)
    proposals.boxes_cxcywh.requires_grad_()
    branch = _branch(3)
    queries = branch(memory, proposals, TopK()(memory, proposals, QueryBudget(4)))
    assert torch.equal(queries.content, branch.content.table.weight.expand(2, -1, -1))
    rows = queries.token_index[..., None].expand(-1, -1, 4)
    assert torch.equal(queries.reference, proposals.boxes_cxcywh.gather(1, rows))
    assert not queries.reference.requires_grad and queries.content.requires_grad


def test_targets_are_repeated_and_rows_are_not() -> None:
    memory, proposals = _memory_and_proposals(0)
    queries = _branch(3)(memory, proposals, TopK()(memory, proposals, QueryBudget(4)))
    assert queries.groups == (QueryGroup("one_to_many", size=3, repeats=1, target_repeats=6),)


def test_attention_is_block_diagonal_beside_matching_queries() -> None:
    groups = (QueryGroup("matching", 2), QueryGroup("one_to_many", 3, target_repeats=6))
    blocked = Queries(torch.zeros(1, 5, WIDTH), torch.zeros(1, 5, 4), groups=groups).attention_mask()
    expected = ~torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).bool()
    assert blocked is not None and torch.equal(blocked, expected)


def test_denoising_queries_see_the_matching_ones_and_neither_sees_the_branch() -> None:
    groups = (QueryGroup("denoising", 1, 2), QueryGroup("matching", 1), QueryGroup("one_to_many", 2))
    blocked = Queries(torch.zeros(1, 5, WIDTH), torch.zeros(1, 5, 4), groups=groups).attention_mask()
    assert blocked is not None and (~blocked).int().tolist() == [
        [1, 0, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]


def test_learned_places_leave_no_ranking_to_go_on_with() -> None:
    memory, _ = _memory_and_proposals(0)
    with pytest.raises(ValueError, match="selected from proposals, got learned ones"):
        _branch(3)(memory, None, Places(torch.rand(2, 4, 4)))


@pytest.mark.parametrize("settings", [{"num_queries": 0}, {"target_repeats": 0}])
def test_a_branch_of_nothing_is_refused(settings) -> None:
    with pytest.raises(ValueError, match="at least one hybrid query"):
        HybridQueries(LearnedContent(1, WIDTH), **settings)
