"""What counting is taught: the class of the number of objects."""

from __future__ import annotations

import pytest
import torch

from smidgen.losses import ObjectCountLoss, count_classes
from smidgen.structures import DetectorOutput, Predictions, Target
from smidgen.tokens.object_counting import ObjectCount

THRESHOLDS = (10, 100, 500)


def _target(num_objects, num_regions=0):
    boxes = torch.tensor([[1.0, 1.0, 5.0, 5.0]])
    labels = torch.zeros(num_objects, dtype=torch.long)
    return Target.of(boxes.expand(num_objects, 4), labels, (80, 100), ignore=boxes.expand(num_regions, 4))


def _output(*evidence):
    return DetectorOutput(Predictions(torch.zeros(2, 1, 1), torch.zeros(2, 1, 4)), evidence=evidence)


def test_a_class_is_the_number_of_thresholds_that_a_count_reaches():
    assert count_classes([0, 9, 10, 99, 100, 499, 500, 9000], THRESHOLDS).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_cross_entropy_is_the_mean_over_images():
    logits = torch.randn(2, 4, requires_grad=True)
    loss = ObjectCountLoss()(_output(ObjectCount(logits, THRESHOLDS)), [_target(3), _target(100)], 0.5)
    score = logits.detach().log_softmax(-1)
    assert loss["object_count"].item() == pytest.approx(-(score[0, 0] + score[1, 2]).item() / 2, rel=1e-5)
    loss["object_count"].backward()
    assert bool((logits.grad != 0).all())


def test_ignore_regions_are_no_objects():
    logits = torch.randn(1, 4)
    evidence = _output(ObjectCount(logits, THRESHOLDS))
    losses = [ObjectCountLoss()(evidence, [_target(9, num_regions=regions)], 0.0) for regions in (0, 5)]
    assert torch.equal(losses[0]["object_count"], losses[1]["object_count"])


def test_a_model_that_does_not_count_has_no_such_loss():
    assert ObjectCountLoss()(_output(), [_target(1), _target(2)], 0.0) == {}
