"""From the counted class to the number of queries."""

from __future__ import annotations

import pytest
import torch

from smidgen.queries.counted_budget import CountedBudget
from smidgen.structures import Memory, Tokens
from smidgen.tokens.object_counting import ObjectCount


def _counted(*classes: int, evidence: bool = True) -> Memory:
    content = torch.zeros(len(classes), 1, 4)
    padding = torch.zeros(len(classes), 1, dtype=torch.bool)
    tokens = Tokens(content, content, padding, torch.ones(len(classes), 1, 2), ((1, 1),), (4,))
    count = ObjectCount(torch.nn.functional.one_hot(torch.tensor(classes), 4).float(), (10, 100, 500))
    return Memory.of(tokens, *([count] if evidence else []))


def test_every_image_gets_the_budget_of_its_class() -> None:
    budget = CountedBudget()(_counted(1, 0, 2))
    assert budget.per_image is not None
    assert budget.per_image.tolist() == [500, 300, 900]
    assert budget.size == 900


def test_the_official_budget_is_that_of_the_fullest_image() -> None:
    budget = CountedBudget(per_batch=True)(_counted(1, 0))
    assert budget.size == 500
    assert budget.per_image is None


def test_budgets_need_not_grow_with_the_count() -> None:
    budget = CountedBudget((50, 20, 80, 10), per_batch=True)(_counted(0, 1))
    assert budget.size == 20  # of the highest class, as in the official code


def test_without_values_the_largest_budget_is_planned() -> None:
    memory = _counted(0)
    (count,) = memory.evidence
    assert isinstance(count, ObjectCount)
    traced = Memory.of(memory.tokens, ObjectCount(count.logits.to("meta"), count.thresholds))
    assert CountedBudget().to("meta")(traced).size == 1500


def test_a_missing_counting_stage_is_named() -> None:
    with pytest.raises(ValueError, match="counting stage"):
        CountedBudget()(_counted(0, evidence=False))


def test_one_budget_per_class() -> None:
    with pytest.raises(ValueError, match=r"model\.budgets"):
        CountedBudget((300, 500))(_counted(0))


@pytest.mark.parametrize("per_batch", [False, True])
def test_a_compiled_program_has_as_many_rows_whatever_it_counts(
    per_batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    budget = CountedBudget(per_batch=per_batch)(_counted(1, 0))
    assert budget.size == 1500 and budget.per_image is not None
    assert budget.per_image.tolist() == ([500, 500] if per_batch else [500, 300])
