"""The cascade: what it computes has the dense values where the paper says so, for any batch, size and start."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smidgen.decoder.cascaded_head import QUERY_METHODS, CascadeAnswers, complete_query, crop_query, run_cascade
from smidgen.decoder.dense_head import DenseHead, QueryHead
from smidgen.structures import LevelAnswers
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery

WIDTH = 3


def _heads(seed: int = 0) -> tuple[DenseHead, QueryHead]:
    torch.manual_seed(seed)
    heads = DenseHead(WIDTH, 2, 2), QueryHead(WIDTH)
    for head in heads:
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=0.4)
        head.double().eval()
    # So that about half of the cells fire.
    nn.init.zeros_(heads[1].prediction.bias)
    return heads


def _levels(seed: int, batch: int, shape: tuple[int, int], count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for _ in range(count):
        levels.append(torch.randn(batch, WIDTH, *shape, generator=generator, dtype=torch.float64))
        shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    return levels


@torch.no_grad()
def _run(levels: list[Tensor], cascade: CascadeSparseQuery, method: str = "csq", **settings: object) -> CascadeAnswers:
    return run_cascade(levels, *_heads(), cascade, method=QUERY_METHODS[method], **settings)  # type: ignore[arg-type]


@torch.no_grad()
def _dense(levels: list[Tensor]) -> tuple[LevelAnswers, ...]:
    return _heads()[0].on_levels(levels)


def _assert_equal_at_keys(found: LevelAnswers, dense: LevelAnswers) -> None:
    rows = slice(None) if found.cells is None else found.cells.index
    torch.testing.assert_close(found.logits, dense.logits[rows], atol=1e-10, rtol=0)
    torch.testing.assert_close(found.regression, dense.regression[rows], atol=1e-10, rtol=0)


@settings(max_examples=8)
@given(st.integers(0, 2**20), st.integers(1, 2), st.tuples(st.integers(9, 30), st.integers(9, 30)), st.integers(1, 3))
def test_context_of_11x11_gives_the_keys_their_dense_values(
    seed: int, batch: int, shape: tuple[int, int], start: int
) -> None:
    levels = _levels(seed, batch, shape, 4)
    found = _run(levels, CascadeSparseQuery(0.5, context=5, start=start))
    for answers, dense in zip(found.levels, _dense(levels), strict=True):
        _assert_equal_at_keys(answers, dense)
    assert [computed.level for computed in found.computed.levels] == list(range(start))


def test_less_context_does_not() -> None:
    levels = _levels(1, 1, (32, 32), 3)
    found, dense = _run(levels, CascadeSparseQuery(0.5, context=1)), _dense(levels)
    keys = found.computed.levels[0].keys
    assert 0 < len(keys) < 32 * 32
    assert (found.levels[0].logits - dense[0].logits[keys.index]).abs().max() > 1e-3


@settings(max_examples=6)
@given(st.integers(0, 2**20), st.tuples(st.integers(3, 20), st.integers(3, 20)))
def test_a_threshold_below_zero_without_context_is_dense_everywhere(seed: int, shape: tuple[int, int]) -> None:
    levels = _levels(seed, 2, shape, 3)
    found = _run(levels, CascadeSparseQuery(-1.0, context=0))
    for answers, dense in zip(found.levels, _dense(levels), strict=True):
        assert len(answers.logits) == len(dense.logits)
        _assert_equal_at_keys(answers, dense)
    assert found.computed.share == 1


@pytest.mark.parametrize("method", ["csq", "cq", "ccq"])
def test_a_batch_of_two_equals_two_singles(method: str) -> None:
    levels = _levels(3, 2, (24, 20), 3)
    cascade = CascadeSparseQuery(0.5, context=1, budget=120)
    together = _run(levels, cascade, method)
    for image in range(2):
        alone = _run([level[image : image + 1] for level in levels], cascade, method)
        for ours, single in zip(together.levels, alone.levels, strict=True):
            assert ours.cells is None or single.cells is not None
            count = len(ours.logits) // 2
            mine = slice(image * count, image * count + count) if ours.cells is None else ours.cells.image == image
            torch.testing.assert_close(ours.logits[mine], single.logits, atol=1e-10, rtol=0)


def test_odd_sizes_from_the_fourth_level_down() -> None:
    levels = _levels(4, 1, (75, 43), 5)
    found = _run(levels, CascadeSparseQuery(0.3, context=2, start=4))
    for answers, level in zip(found.levels, levels, strict=True):
        assert answers.shape == tuple(level.shape[2:])
        if answers.cells is not None:
            assert answers.cells.row.max() < level.shape[2] and answers.cells.column.max() < level.shape[3]


def test_without_queries_only_dense_levels_answer() -> None:
    levels = _levels(5, 2, (16, 16), 3)
    found = _run(levels, CascadeSparseQuery(threshold=1.0))
    assert [len(answers.logits) for answers in found.levels] == [0, 0, 2 * 16]
    assert found.computed.share == 0
    _assert_equal_at_keys(found.levels[2], _dense(levels)[2])


def test_crops_equal_the_complete_convolution_at_interior_keys_and_only_there() -> None:
    levels, (head, query_head) = _levels(6, 1, (26, 26), 2), _heads()
    cascade = CascadeSparseQuery(-1.0, start=1)
    with torch.no_grad():
        crops, complete = (
            run_cascade(levels, head, query_head, cascade, method=method) for method in (crop_query, complete_query)
        )
    keys = crops.computed.levels[0].keys
    inside = (keys.row >= 5) & (keys.row < 21) & (keys.column >= 5) & (keys.column < 21)
    difference = (crops.levels[0].logits - complete.levels[0].logits).abs().amax(dim=(1, 2))
    assert inside.sum() == 16 * 16 and difference[inside].max() < 1e-10 and difference[~inside].max() > 1e-3


def test_evidence_says_what_was_computed_and_which_score_chose_it() -> None:
    levels = _levels(7, 1, (24, 24), 3)
    found = _run(levels, CascadeSparseQuery(0.5, context=2))
    level, start_logits = found.computed.levels[1], found.query_logits[0][1]
    assert found.query_logits[0][0] == 2 and level.level == 1
    assert level.share == len(level.active) / 144 and 0 < len(level.keys) < len(level.active)
    expected = start_logits[0, level.keys.row // 2, level.keys.column // 2].sigmoid()
    assert torch.equal(level.scores, expected) and bool((level.scores > 0.5).all())
    assert {field.name for field in fields(level)} == {"level", "keys", "active", "scores"}


@pytest.mark.parametrize("method", ["csq", "ccq"])
def test_padded_cells_change_nothing_and_get_nothing(method: str) -> None:
    levels = _levels(8, 1, (16, 16), 3)
    larger = [nn.functional.pad(level, (0, level.shape[3] // 2), value=7.0) for level in levels]
    paddings = [torch.zeros_like(level[:, 0], dtype=torch.bool) for level in larger]
    for padding, level in zip(paddings, levels, strict=True):
        padding[..., level.shape[3] :] = True
    cascade = CascadeSparseQuery(0.5, context=2)
    alone, padded = _run(levels, cascade, method), _run(larger, cascade, method, paddings=paddings)
    for ours, expected in zip(padded.levels[:2], alone.levels[:2], strict=True):
        torch.testing.assert_close(ours.logits, expected.logits, atol=1e-10, rtol=0)
    shares = zip(padded.computed.levels, alone.computed.levels, strict=True)
    assert all(len(ours.active) == len(expected.active) for ours, expected in shares)


def test_a_start_beyond_the_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="start=3"):
        _run(_levels(0, 1, (8, 8), 3), CascadeSparseQuery(start=3))
