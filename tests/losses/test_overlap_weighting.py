"""Box losses of one-to-many positives by their overlap."""

from __future__ import annotations

import pytest
import torch

from smidgen.losses import GIoULoss
from smidgen.losses.overlap_weighting import OverlapWeighting
from smidgen.structures import Matches, Predictions, SupervisedSet, Target

TARGET = Target.of(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([0]), (20, 20))
BOXES = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.25, 0.125, 0.5, 0.25], [0.9, 0.9, 0.1, 0.1]]])  # IoU 1, 1/2, 0


def _set(name: str, boxes: torch.Tensor = BOXES) -> SupervisedSet:
    pairs = Matches(torch.zeros(3, dtype=torch.long), torch.arange(3), torch.zeros(3, dtype=torch.long))
    return SupervisedSet(name, 0, Predictions(torch.zeros(1, 3, 1), boxes), (TARGET,), pairs, 1.0)


def test_a_pair_weighs_its_overlap_in_the_named_sets_alone() -> None:
    weighting = OverlapWeighting(sets=("auxiliary",))
    objects = TARGET.boxes_cxcywh.expand(3, -1)
    torch.testing.assert_close(weighting(_set("auxiliary"), objects, 0.0), torch.tensor([1.0, 0.5, 0.0]))
    assert weighting(_set("final"), objects, 0.0).tolist() == [1, 1, 1]


def test_another_weighting_is_multiplied_on_in_every_set() -> None:
    weighting = OverlapWeighting(sets=("auxiliary",), also=lambda _, boxes, progress: boxes.new_full((3,), progress))
    objects = TARGET.boxes_cxcywh.expand(3, -1)
    assert weighting(_set("auxiliary"), objects, 4.0).tolist() == pytest.approx([4, 2, 0])
    assert weighting(_set("final"), objects, 4.0).tolist() == [4, 4, 4]


def test_the_weight_has_no_gradient() -> None:
    boxes = BOXES.clone().requires_grad_()
    loss = GIoULoss(weighting=OverlapWeighting(sets=("auxiliary",)))(_set("auxiliary", boxes), 0.0)["giou"]
    loss.backward()
    assert boxes.grad is not None and boxes.grad[0, 1].abs().sum() > 0
    assert boxes.grad[0, 2].abs().sum() == 0, "a pair that does not overlap learns nothing"
