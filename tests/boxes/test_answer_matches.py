"""Who answers for whom, read as labels and pairs."""

from __future__ import annotations

import torch

from smidgen.boxes.answer_matches import BACKGROUND, LEFT_OUT, AnswerMatches
from smidgen.structures import Target

TWO = Target.of(torch.tensor([[0.0, 0, 8, 8], [8.0, 8, 20, 20]]), torch.tensor([3, 1]), (32, 32))
NONE = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (32, 32))
BATCH = AnswerMatches(torch.tensor([[1, BACKGROUND, LEFT_OUT, 0], [BACKGROUND, BACKGROUND, LEFT_OUT, BACKGROUND]]))


def test_labels_are_classes_one_past_the_last_for_background_and_minus_one_for_left_out() -> None:
    assert BATCH.labels([TWO, NONE], 5).tolist() == [[1, 5, -1, 3], [5, 5, -1, 5]]


def test_pairs_are_the_positives_with_their_objects() -> None:
    pairs = BATCH.pairs()
    assert list(zip(pairs.image.tolist(), pairs.query.tolist(), pairs.target.tolist(), strict=True)) == [
        (0, 0, 1),
        (0, 3, 0),
    ]


def test_positive_background_and_left_out_are_everything() -> None:
    assert torch.equal(BATCH.counted, BATCH.positive | BATCH.background)
    assert (~BATCH.counted).sum() == 2


def test_only_background_inside_an_ignore_region_is_left_out() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10], [6.0, 0, 16, 10], [40.0, 40, 50, 50]])
    matches = AnswerMatches(torch.tensor([0, BACKGROUND, BACKGROUND, BACKGROUND]))
    regions = torch.tensor([[0.0, 0, 10, 10], [100.0, 100, 110, 110]])
    judged = matches.without_background_in(regions, anchors, 0.5)
    assert judged.target.tolist() == [0, LEFT_OUT, BACKGROUND, BACKGROUND], "40 % inside is not half"
    assert torch.equal(matches.without_background_in(regions[:0], anchors, 0.5).target, matches.target)
