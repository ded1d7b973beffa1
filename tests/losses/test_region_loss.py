"""The second stage's losses against the numbers of their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from smidgen.losses.region_loss import RegionLoss
from smidgen.structures import DenseOutput
from smidgen.structures.regions import RegionAnswers, Regions, RegionTruth


def _output(deltas: torch.Tensor, truth: RegionTruth | None) -> DenseOutput:
    boxes = torch.tensor([[0.0, 0, 10, 20], [30, 30, 40, 40]])
    answers = RegionAnswers(Regions(boxes, torch.zeros(2, dtype=torch.long), 1), torch.zeros(2, 4), deltas, truth)
    return DenseOutput((), (), (64, 64), ((64, 64),), evidence=(answers,))


def test_deltas_of_the_right_class_alone_are_taught_and_sums_divided_by_all_regions() -> None:
    """weights (10, 10, 5, 5): one pixel to the right of a 10 px wide region is 10 x 0.1 = 1."""
    truth = RegionTruth(torch.tensor([1, 3]), torch.tensor([[1.0, 0, 11, 20], [0, 0, 0, 0]]))
    deltas = torch.full((2, 3, 4), 99.0)
    deltas[0, 1] = 0.0
    losses = RegionLoss()(_output(deltas, truth), [], 0.0)
    assert losses["region_box"].item() == pytest.approx(1.0 / 2)
    assert losses["region_classification"].item() == pytest.approx(math.log(4))


def test_an_output_of_evaluation_is_refused() -> None:
    with pytest.raises(ValueError, match="call the model with its targets"):
        RegionLoss()(_output(torch.zeros(2, 3, 4), None), [], 0.0)
