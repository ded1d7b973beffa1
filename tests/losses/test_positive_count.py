"""What dense losses are divided by."""

from __future__ import annotations

import pytest
import torch

from smidgen.boxes.answer_matches import BACKGROUND, LEFT_OUT, AnswerMatches
from smidgen.losses.positive_count import RunningPositiveCount, counted_count, positive_count


def matches(positives: int, background: int = 3) -> AnswerMatches:
    return AnswerMatches(torch.tensor([[0] * positives + [BACKGROUND] * background + [LEFT_OUT]]))


def test_the_running_count_takes_the_batch_in_before_use() -> None:
    count = RunningPositiveCount()
    assert count(matches(239)).item() == pytest.approx(113.9)
    assert count(matches(239)).item() == pytest.approx(126.41)


def test_evaluation_leaves_the_running_count_alone() -> None:
    count = RunningPositiveCount().eval()
    assert count(matches(239)).item() == 100


def test_a_checkpoint_holds_the_running_count() -> None:
    trained, restored = RunningPositiveCount(), RunningPositiveCount()
    trained(matches(10))
    restored.load_state_dict(trained.state_dict())
    assert restored.count == trained.count != 100


def test_counts_are_at_least_one() -> None:
    assert positive_count(matches(0)).item() == 1
    assert positive_count(matches(5)).item() == 5
    assert counted_count(matches(5)).item() == 8
    assert RunningPositiveCount(initial=0.0)(matches(0)).item() == 1
