"""Queries, keys and context are those of the paper, found cell by cell with sets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.structures import Cells
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery, children, on_map, with_context

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def _chosen(seed: int, batch: int, shape: tuple[int, int]) -> Cells:
    generator = torch.Generator().manual_seed(seed)
    return Cells.where(torch.rand(batch, *shape, generator=generator) < 0.2)


def _places(cells: Cells) -> list[tuple[int, int, int]]:
    return list(zip(cells.image.tolist(), cells.row.tolist(), cells.column.tolist(), strict=True))


def _alone(row: int, column: int, shape: tuple[int, int]) -> Cells:
    chosen = torch.zeros(1, *shape, dtype=torch.bool)
    chosen[0, row, column] = True
    return Cells.where(chosen)


@given(st.integers(0, 2**20), st.integers(1, 3), SHAPES)
def test_children_lie_under_their_parents_in_order_and_on_the_map(
    seed: int, batch: int, fine_shape: tuple[int, int]
) -> None:
    coarse_shape = ((fine_shape[0] + 1) // 2, (fine_shape[1] + 1) // 2)
    cells = _chosen(seed, batch, coarse_shape)
    expected = sorted(
        (image, 2 * row + down, 2 * column + right)
        for image, row, column in _places(cells)
        for down in (0, 1)
        for right in (0, 1)
        if 2 * row + down < fine_shape[0] and 2 * column + right < fine_shape[1]
    )
    found = children(cells, fine_shape)
    assert _places(found) == expected and found.shape == fine_shape and found.batch == batch


@given(st.integers(0, 2**20), st.integers(1, 2), SHAPES, st.integers(0, 5))
def test_context_is_every_cell_of_a_square_around_a_key(
    seed: int, batch: int, shape: tuple[int, int], context: int
) -> None:
    keys = _chosen(seed, batch, shape)
    reach = range(-context, context + 1)
    near = {
        (image, row + down, column + right) for image, row, column in _places(keys) for down in reach for right in reach
    }
    inside = sorted(place for place in near if 0 <= place[1] < shape[0] and 0 <= place[2] < shape[1])
    assert _places(with_context(keys, context)) == inside


def test_an_isolated_query_costs_the_square_of_two_and_twice_the_context() -> None:
    keys = children(_alone(10, 10, (20, 20)), (40, 40))
    assert [len(with_context(keys, context)) for context in (0, 1, 2, 5)] == [4, 16, 36, 144]


def test_a_query_is_strictly_above_the_threshold() -> None:
    logits = torch.tensor([[[-1.0, 0.0, 1e-6, 3.0]]])
    cascade = CascadeSparseQuery(threshold=0.5)
    assert _places(cascade.queries(logits, (2, 8))) == [(0, 0, 2), (0, 0, 3)]


def test_below_zero_every_computed_cell_is_a_query_and_no_other() -> None:
    logits = torch.tensor([[[-200.0, -torch.inf, 3.0, torch.nan]]])
    assert _places(CascadeSparseQuery(threshold=-1.0).queries(logits, (2, 8))) == [(0, 0, 0), (0, 0, 2)]


@given(st.integers(0, 2**20), st.integers(4, 40))
def test_a_budget_keeps_the_best_scored_of_each_image(seed: int, budget: int) -> None:
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(seed))
    unlimited = CascadeSparseQuery(0.4)
    kept = CascadeSparseQuery(0.4, budget=budget).keys(logits, (10, 12))
    for image, scores in enumerate(logits):
        fires = scores.sigmoid() > 0.4
        best = scores[fires].sort(descending=True).values[: budget // 4]
        mine = kept.image == image
        assert mine.sum() == 4 * len(best) <= budget
        assert torch.equal(scores[kept.row[mine] // 2, kept.column[mine] // 2].unique(), best.sort().values)
    assert set(_places(kept)) <= set(_places(unlimited.keys(logits, (10, 12))))


def test_a_budget_is_a_number_or_a_share_of_cells() -> None:
    logits = torch.randn(1, 10, 10)
    keys = [CascadeSparseQuery(-1.0, budget=budget).keys(logits, (20, 20)) for budget in (40, 0.1)]
    assert _places(keys[0]) == _places(keys[1]) and len(keys[0]) == 40


def test_a_share_is_one_of_the_images_own_cells_whatever_the_canvas() -> None:
    logits, valid = torch.randn(2, 10, 10), torch.ones(2, 20, 20, dtype=torch.bool)
    valid[1, :, 10:] = False
    logits[1, :, 5:] = -torch.inf
    cascade = CascadeSparseQuery(-1.0, budget=0.1)
    keys, alone = cascade.keys(logits, (20, 20), valid), cascade.keys(logits[1:, :, :5], (20, 10))
    assert keys.image.bincount().tolist() == [40, 20]
    assert _places(alone) == [(0, row, column) for image, row, column in _places(keys) if image]


def test_of_equal_scores_the_budget_keeps_the_first() -> None:
    keys = CascadeSparseQuery(0.4, budget=8).queries(torch.zeros(1, 3, 3), (6, 6))
    assert _places(keys) == [(0, 0, 0), (0, 0, 1)]


def test_a_share_of_less_than_four_cells_is_none() -> None:
    assert len(CascadeSparseQuery(-1.0, budget=0.03).keys(torch.zeros(1, 5, 5), (10, 10))) == 0


def test_padded_cells_are_neither_keys_nor_context() -> None:
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    valid[..., 5:] = False
    keys = CascadeSparseQuery(-1.0).keys(torch.zeros(1, 4, 4), (8, 8), valid)
    assert torch.equal(keys.mask(), valid)
    assert torch.equal(with_context(keys, 2, valid).mask(), valid)


def test_values_go_to_their_cells() -> None:
    cells = Cells.where(torch.tensor([[[True, False], [False, True]]]))
    assert on_map(cells, torch.tensor([1.0, 2.0]), 0.0).tolist() == [[[1, 0], [0, 2]]]


@pytest.mark.parametrize(
    "setting",
    [
        {"context": -1},
        {"start": -1},
        {"budget": 0.0},
        {"budget": 1.5},
        {"budget": 3},
        {"threshold": 15.0},
        {"threshold": float("nan")},
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .*change model\.cascade"):
        CascadeSparseQuery(**setting)  # type: ignore[arg-type]
