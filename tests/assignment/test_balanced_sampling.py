"""How many anchors of an image are judged."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.assignment.balanced_sampling import BalancedSampling
from smidgen.boxes.answer_matches import BACKGROUND, LEFT_OUT, AnswerMatches


@settings(max_examples=20)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 10))
def test_half_at_most_are_positive_and_background_fills_the_rest(positives: int, background: int, out: int) -> None:
    owners = torch.tensor([0] * positives + [BACKGROUND] * background + [LEFT_OUT] * out, dtype=torch.long)
    before = AnswerMatches(owners[torch.randperm(len(owners))])
    after = BalancedSampling(number=20)(before)
    assert after.positive.sum() == min(positives, 10)
    assert after.background.sum() == min(background, 20 - min(positives, 10))
    assert torch.equal(after.target[after.counted], before.target[after.counted])


def test_the_choice_is_random_and_can_be_repeated() -> None:
    matches = AnswerMatches(torch.full((200,), BACKGROUND))
    choices = [BalancedSampling(number=20)(matches, torch.Generator().manual_seed(seed)).counted for seed in (1, 1, 2)]
    assert torch.equal(choices[0], choices[1])
    assert not torch.equal(choices[0], choices[2])
