"""Stratified selection: shares add up, short levels hand on, images do not see each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.queries.stratified_topk import PAPER_QUOTAS, StratifiedTopK, apportion, check_quotas, folded
from smidgen.structures import Memory, Places, Proposals, QueryBudget, Tokens

SHAPES = ((6, 7), (3, 4), (2, 2))
QUOTAS = {5: (0.6, 0.4), 12: (0.85, 0.15), 40: (0.2, 0.3, 0.5)}


def _scene(seed: int, batch: int = 2, share_valid: float = 0.6) -> tuple[Memory, Proposals]:
    generator = torch.Generator().manual_seed(seed)
    count = sum(rows * columns for rows, columns in SHAPES)
    valid = torch.rand(batch, count, generator=generator) < share_valid
    content = torch.rand(batch, count, 4, generator=generator)
    tokens = Tokens(content, content, ~valid, torch.ones(batch, 3, 2), SHAPES, (4, 8, 16))
    logits = torch.randn(batch, count, 3, generator=generator)
    return Memory.of(tokens), Proposals(logits, content.clone(), content, valid)


def _chosen(places: Places, image: int) -> torch.Tensor:
    assert places.token_index is not None and places.padding is not None
    return places.token_index[image][~places.padding[image]]


@given(st.integers(0, 2000), st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_parts_add_up_and_are_nearly_exact(total: int, weights: list[int]) -> None:
    parts = apportion(torch.tensor([total]), torch.tensor([weights]))[0]
    assert parts.sum() == (total if any(weights) else 0)
    for part, weight in zip(parts.tolist(), weights, strict=True):
        assert abs(part - total * weight / max(sum(weights), 1)) < 1


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=2), st.integers(0, 2**20), st.sampled_from([0.0, 0.1, 0.6, 1.0])
)
def test_every_image_gets_its_budget_of_valid_tokens_and_the_best_of_each_level(
    budgets: list[int], seed: int, share_valid: float
) -> None:
    memory, proposals = _scene(seed, share_valid=share_valid)
    places = StratifiedTopK(QUOTAS)(memory, proposals, QueryBudget(max(budgets), torch.tensor(budgets)))
    score = proposals.logits.amax(-1)
    starts = memory.tokens.starts
    for image, budget in enumerate(budgets):
        chosen = _chosen(places, image)
        assert len(chosen) == min(budget, int(proposals.valid[image].sum()))
        assert len(set(chosen.tolist())) == len(chosen)
        assert proposals.valid[image, chosen].all()
        for level in range(3):
            inside = chosen[(chosen >= starts[level]) & (chosen < starts[level + 1])]
            rest = proposals.valid[image].clone()
            rest[: starts[level]] = rest[starts[level + 1] :] = False
            rest[inside] = False
            assert len(inside) == 0 or not rest.any() or score[image, rest].max() <= score[image, inside].min()
            assert score[image, inside].diff().le(0).all()


@given(st.lists(st.integers(1, 60), min_size=3, max_size=3), st.integers(0, 2**20))
def test_batch_mates_change_nothing(budgets: list[int], seed: int) -> None:
    memory, proposals = _scene(seed, batch=3)
    select = StratifiedTopK(QUOTAS)
    together = select(memory, proposals, QueryBudget(60, torch.tensor(budgets)))
    first = Proposals(proposals.logits[:1], proposals.boxes_cxcywh[:1], proposals.content[:1], proposals.valid[:1])
    tokens = memory.tokens
    alone_tokens = Tokens(
        tokens.content[:1], tokens.position[:1], tokens.padding[:1], tokens.valid_share[:1], SHAPES, tokens.strides
    )
    alone = select(Memory.of(alone_tokens), first, QueryBudget(budgets[0], torch.tensor(budgets[:1])))
    assert _chosen(together, 0).tolist() == _chosen(alone, 0).tolist()


def test_the_paper_s_shares() -> None:
    """Of 300 queries 180 start at stride 4 and 120 at stride 8, of 1500 only 75 at stride 8."""
    plenty = torch.tensor([[40000, 10000, 2500, 625, 169]] * 4)
    taken = StratifiedTopK(PAPER_QUOTAS).allocate(torch.tensor([300, 500, 900, 1500]), plenty)
    assert taken[:, :2].tolist() == [[180, 120], [425, 75], [810, 90], [1425, 75]]
    assert taken[:, 2:].sum() == 0


def test_other_budgets_use_the_nearest_larger_one_s_shares() -> None:
    plenty = torch.full((2, 2), 5000)
    taken = StratifiedTopK(PAPER_QUOTAS).allocate(torch.tensor([200, 2000]), plenty)
    assert taken.tolist() == [[120, 80], [1900, 100]]


def test_a_short_level_hands_on_in_proportion_and_then_to_the_finest_of_the_rest() -> None:
    select = StratifiedTopK({100: (0.5, 0.3, 0.2, 0.0, 0.0)})
    available = torch.tensor([[10, 90, 90, 5, 90], [10, 20, 20, 5, 90]])
    taken = select.allocate(torch.tensor([100, 100]), available)
    assert taken.tolist() == [[10, 54, 36, 0, 0], [10, 20, 20, 5, 45]]


def test_official_shares_are_truncated_and_short_levels_give_fewer() -> None:
    memory, proposals = _scene(0)
    select = StratifiedTopK({50: (0.95, 0.05)}, skip_invalid=False, redistribute=False)
    places = select(memory, proposals, QueryBudget(50))
    assert places.padding is None and places.level is not None
    assert places.level.tolist() == [[0] * 42 + [1] * 2] * 2  # level 0 has 42 of the 47 tokens asked for; 2.5 is 2


def test_the_level_of_every_query_is_told() -> None:
    memory, proposals = _scene(3, share_valid=1.0)
    places = StratifiedTopK(QUOTAS)(memory, proposals, QueryBudget(5))
    assert places.level is not None
    assert places.level.tolist() == [[0, 0, 0, 1, 1]] * 2
    assert not places.reference.requires_grad


@pytest.mark.parametrize("quotas", [{}, {0: (1.0,)}, {300: ()}, {300: (0.5, 0.3)}, {300: (1.5, -0.5)}])
def test_shares_must_sum_to_one(quotas: dict[int, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=r"model\.quotas"):
        StratifiedTopK(quotas)


def test_shares_of_levels_that_do_not_exist_are_refused() -> None:
    memory, proposals = _scene(0)
    with pytest.raises(ValueError, match="at most 3 levels"):
        StratifiedTopK({5: (0.25, 0.25, 0.25, 0.25)})(memory, proposals, QueryBudget(5))


def test_shares_of_missing_levels_go_to_the_coarsest_there_is() -> None:
    table = {300: (0.5, 0.3, 0.2), 500: (1.0,)}
    assert folded(table, 2) == {300: (0.5, 0.5), 500: (1.0,)}
    assert folded(table, 1) == {300: (1.0,), 500: (1.0,)}
    assert folded(PAPER_QUOTAS, 5) == PAPER_QUOTAS


def test_a_table_for_more_levels_than_there_are_is_refused_before_it_is_used() -> None:
    check_quotas(PAPER_QUOTAS, 2)
    with pytest.raises(ValueError, match=r"at most 1 levels, got 2; change model\.quotas"):
        check_quotas(PAPER_QUOTAS, 1)
