"""Redundancy removal: a token goes if a kept one of its level is a direct neighbor, and rows left over are filled."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smidgen.queries.suppressed_topk import SuppressedTopK
from smidgen.structures import Memory, Places, Proposals, QueryBudget, Tokens

Shapes = tuple[tuple[int, int], ...]
SHAPES: Shapes = ((4, 6), (2, 3), (1, 2))
COUNT = sum(rows * columns for rows, columns in SHAPES)

shapes_of_levels = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3).map(tuple)


def _scene(logits: Tensor, valid: Tensor, shapes: Shapes) -> tuple[Memory, Proposals]:
    batch, count, _ = logits.shape
    content = torch.rand(batch, count, 4)
    strides = tuple(8 * 2**level for level in range(len(shapes)))
    tokens = Tokens(content, content, ~valid, torch.ones(batch, len(shapes), 2), shapes, strides)
    return Memory.of(tokens), Proposals(logits, torch.rand(batch, count, 4), content, valid)


def _random_scene(seed: int, shapes: Shapes = SHAPES, batch: int = 2) -> tuple[Memory, Proposals]:
    """Scores without ties, about a third of the tokens invalid."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(rows * columns for rows, columns in shapes)
    scores = torch.stack([torch.randperm(count, generator=generator) for _ in range(batch)]).float()
    logits = torch.stack([scores, scores - 1000], dim=-1)
    return _scene(logits, torch.rand(batch, count, generator=generator) > 0.3, shapes)


def _place_of(token: int, shapes: Shapes) -> tuple[int, int, int]:
    for level, (rows, columns) in enumerate(shapes):
        if token < rows * columns:
            return level, token // columns, token % columns
        token -= rows * columns
    raise AssertionError(token)


def _are_neighbors(one: int, other: int, shapes: Shapes) -> bool:
    (level, row, column), (other_level, other_row, other_column) = _place_of(one, shapes), _place_of(other, shapes)
    return level == other_level and abs(row - other_row) + abs(column - other_column) == 1


def _greedy(score: Tensor, valid: Tensor, shapes: Shapes, size: int, fill: bool) -> list[int]:
    """The paper's words, one token at a time."""
    ranked = [int(token) for token in score.argsort(descending=True) if valid[token]][: 4 * size]
    kept: list[int] = []
    for token in ranked:
        if not any(_are_neighbors(token, other, shapes) for other in kept):
            kept.append(token)
    rest = [token for token in ranked if token not in kept] if fill else []
    return (kept + rest)[:size]


def _chosen(places: Places, image: int) -> list[int]:
    assert places.token_index is not None
    index = places.token_index[image]
    return (index if places.padding is None else index[~places.padding[image]]).tolist()


@given(shapes_of_levels, st.integers(1, 20), st.integers(0, 2**20))
def test_it_is_the_greedy_rule(shapes: Shapes, size: int, seed: int) -> None:
    memory, proposals = _random_scene(seed, shapes)
    places = SuppressedTopK()(memory, proposals, QueryBudget(size))
    for image in range(2):
        valid = proposals.valid[image]
        expected = _greedy(proposals.logits[image].amax(-1), valid, shapes, size, fill=True)
        assert _chosen(places, image) == expected
        assert len(expected) == min(size, int(valid.sum()))


@given(shapes_of_levels, st.integers(1, 20), st.integers(0, 2**20))
def test_no_two_kept_queries_of_a_level_are_direct_neighbors(shapes: Shapes, size: int, seed: int) -> None:
    memory, proposals = _random_scene(seed, shapes)
    selection = SuppressedTopK(skip_invalid=False, fill=False)
    places = selection(memory, proposals, QueryBudget(size))
    assert places.padding is None
    every = torch.ones_like(proposals.valid)
    greedy = [_greedy(proposals.logits[b].amax(-1), every[b], shapes, size, fill=False) for b in range(2)]
    fewest = min(len(kept) for kept in greedy)
    for image in range(2):
        chosen = _chosen(places, image)
        assert chosen == greedy[image][:fewest]
        assert not any(_are_neighbors(*pair, shapes) for pair in combinations(chosen, 2))
        assert proposals.logits[image, chosen].amax(-1).diff().lt(0).all()


@given(st.integers(1, 10), st.integers(0, 2**20))
def test_survivors_come_first_and_both_parts_in_order_of_score(size: int, seed: int) -> None:
    memory, proposals = _random_scene(seed)
    filled, cut = (SuppressedTopK(fill=fill)(memory, proposals, QueryBudget(size)) for fill in (True, False))
    for image in range(2):
        chosen, survivors = _chosen(filled, image), _chosen(cut, image)
        assert chosen[: len(survivors)] == survivors
        score = proposals.logits[image].amax(-1)
        kept = _greedy(score, proposals.valid[image], SHAPES, size, fill=False)
        for part in (chosen[: len(kept)], chosen[len(kept) :]):
            assert score[part].diff().lt(0).all()


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**20))
def test_an_image_with_its_own_budget_is_served_as_if_alone(own: int, mate: int, seed: int) -> None:
    memory, proposals = _random_scene(seed)
    together = SuppressedTopK()(memory, proposals, QueryBudget(max(own, mate), torch.tensor([own, mate])))
    for image, size in enumerate((own, mate)):
        alone = _scene(proposals.logits[image : image + 1], proposals.valid[image : image + 1], SHAPES)
        assert _chosen(together, image) == _chosen(SuppressedTopK()(*alone, QueryBudget(size)), 0)


def test_all_equal_scores_still_suppress() -> None:
    memory, proposals = _scene(torch.zeros(1, COUNT, 1), torch.ones(1, COUNT, dtype=torch.bool), SHAPES)
    chosen = _chosen(SuppressedTopK(fill=False)(memory, proposals, QueryBudget(COUNT)), 0)
    assert 0 < len(chosen) < COUNT
    assert not any(_are_neighbors(*pair, SHAPES) for pair in combinations(chosen, 2))


def test_levels_do_not_suppress_each_other() -> None:
    memory, proposals = _scene(torch.randn(1, 2, 1), torch.ones(1, 2, dtype=torch.bool), ((1, 1), (1, 1)))
    assert sorted(_chosen(SuppressedTopK(fill=False)(memory, proposals, QueryBudget(2)), 0)) == [0, 1]


def test_without_a_valid_token_all_rows_are_padding() -> None:
    memory, proposals = _scene(torch.randn(2, COUNT, 3), torch.zeros(2, COUNT, dtype=torch.bool), SHAPES)
    places = SuppressedTopK()(memory, proposals, QueryBudget(5))
    assert places.padding is not None and places.padding.shape == (2, 5) and places.padding.all()


def test_rows_hold_what_their_tokens_propose() -> None:
    memory, proposals = _random_scene(3)
    proposals.logits.requires_grad_()
    proposals.boxes_cxcywh.requires_grad_()
    places = SuppressedTopK()(memory, proposals, QueryBudget(7))
    assert places.token_index is not None and places.level is not None and places.content is not None
    assert places.predictions is not None and places.predictions.logits.requires_grad
    assert not places.reference.requires_grad
    for row, token in enumerate(places.token_index[0].tolist()):
        assert torch.equal(places.reference[0, row], proposals.boxes_cxcywh[0, token])
        assert torch.equal(places.content[0, row], proposals.content[0, token])
        assert torch.equal(places.predictions.logits[0, row], proposals.logits[0, token])
        assert places.level[0, row] == _place_of(token, SHAPES)[0]


def test_what_cannot_be_selected_is_refused() -> None:
    memory, _ = _random_scene(0)
    with pytest.raises(ValueError, match="ProposalHead"):
        SuppressedTopK()(memory, None, QueryBudget(1))
    with pytest.raises(ValueError, match="candidate"):
        SuppressedTopK(candidates_per_query=0)
