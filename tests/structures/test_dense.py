"""Cells of a level: chosen ones and all, in one order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.structures import Cells, LevelAnswers


@given(st.integers(0, 10_000))
def test_cells_keep_the_order_of_the_flattened_level_and_come_back_as_a_mask(seed: int) -> None:
    chosen = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(seed)) < 0.3
    cells = Cells.where(chosen)
    assert torch.equal(cells.index, chosen.flatten().nonzero()[:, 0])
    assert torch.equal(cells.mask(), chosen) and len(cells) == int(chosen.sum())


def test_all_cells_read_a_level_as_it_is_flattened() -> None:
    level = torch.randn(2, 3, 4, 5)
    assert torch.equal(Cells.all_of(2, (4, 5)).read(level), level.permute(0, 2, 3, 1).flatten(0, 2))


def test_answers_of_all_cells_are_rows_of_each_image() -> None:
    logits = torch.arange(2 * 6 * 3 * 4).reshape(12, 3, 4).float()
    answers = LevelAnswers(logits, torch.zeros(12, 3, 4), None, (2, 3), 2)
    rows = answers.per_image(answers.logits)
    assert rows.shape == (2, 18, 4) and torch.equal(rows[1, :3], logits[6])
    some = LevelAnswers(logits[:1], torch.zeros(1, 3, 4), None, (2, 3), 2, Cells.where(torch.eye(3)[None, :2] > 0))
    with pytest.raises(ValueError, match="all cells"):
        some.per_image(some.logits)
