"""L1 and generalized IoU of matched pairs, their weighting and their ends."""

from __future__ import annotations

import pytest
import torch
import torchvision

from smidgen.losses import GIoULoss, L1Loss
from smidgen.structures import Matches, Predictions, SupervisedSet, Target

TERMS = pytest.mark.parametrize(("term", "name"), [(L1Loss, "l1"), (GIoULoss, "giou")])


def _target(num_objects):
    corners = torch.rand(num_objects, 2) * 40
    boxes = torch.cat([corners, corners + torch.rand(num_objects, 2) * 30 + 5], dim=1)
    return Target.of(boxes, torch.zeros(num_objects, dtype=torch.long), (80, 100))


def _set(boxes, targets, pairs, normalizer=1.0):
    image, query, target = (torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in range(3))
    predictions = Predictions(torch.zeros(*boxes.shape[:2], 1), boxes)
    return SupervisedSet("final", 0, predictions, tuple(targets), Matches(image, query, target), normalizer)


def _example():
    boxes = torch.rand(2, 5, 4) * 0.4 + 0.2
    return _set(boxes, [_target(2), _target(3)], [(0, 4, 0), (0, 1, 1), (1, 0, 2)], normalizer=5.0)


def test_pairs_meet_the_object_of_their_own_image():
    supervised = _example()
    l1 = giou = 0.0
    for image, query, index in [(0, 4, 0), (0, 1, 1), (1, 0, 2)]:
        box = supervised.predictions.boxes_cxcywh[image, query]
        truth = supervised.targets[image].boxes_cxcywh[index]
        l1 += (box - truth).abs().sum().item()
        corners = torchvision.ops.box_convert(torch.stack([box, truth]), "cxcywh", "xyxy")
        giou += 1 - torchvision.ops.generalized_box_iou(corners[:1], corners[1:]).item()
    assert L1Loss()(supervised, 0.0)["l1"].item() == pytest.approx(l1 / 5, rel=1e-5)
    assert GIoULoss()(supervised, 0.0)["giou"].item() == pytest.approx(giou / 5, rel=1e-5)


@TERMS
def test_perfect_boxes_cost_nothing(term, name):
    target = _target(3)
    supervised = _set(target.boxes_cxcywh[None], [target], [(0, 0, 0), (0, 1, 1), (0, 2, 2)])
    assert term()(supervised, 0.0)[name].item() == pytest.approx(0.0, abs=1e-5)


@TERMS
def test_a_weighting_sees_target_boxes_and_progress_and_scales_each_pair(term, name):
    supervised = _example()
    seen = []

    def second_pair_only(the_set, boxes, progress):
        seen.append((the_set is supervised, boxes, progress))
        return torch.tensor([0.0, 2.0, 0.0])

    weighted = term(weighting=second_pair_only)(supervised, 0.25)[name]
    one = _set(supervised.predictions.boxes_cxcywh, supervised.targets, [(0, 1, 1)], normalizer=5.0)
    assert weighted.item() == pytest.approx(2 * term()(one, 0.0)[name].item(), rel=1e-5)
    ((is_the_set, boxes, progress),) = seen
    assert is_the_set and progress == 0.25
    torch.testing.assert_close(boxes[2], supervised.targets[1].boxes_cxcywh[2])


@TERMS
def test_without_pairs_the_loss_is_zero_and_connected(term, name):
    boxes = torch.rand(2, 4, 4, requires_grad=True)
    value = term()(_set(boxes, [_target(0), _target(0)], []), 0.0)[name]
    value.backward()
    assert value.item() == 0 and torch.equal(boxes.grad, torch.zeros_like(boxes))


@TERMS
def test_bfloat16_boxes_and_boxes_without_area_keep_gradients_finite(term, name):
    boxes = torch.zeros(1, 1, 4, dtype=torch.bfloat16, requires_grad=True)
    point = Target.of(torch.zeros(1, 4), torch.tensor([0]), (80, 100))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = term()(_set(boxes, [point], [(0, 0, 0)]), 0.0)[name]
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and bool(boxes.grad.isfinite().all())


def test_the_parity_form_of_giou_makes_small_boxes_look_worse():
    target = Target.of(torch.tensor([[10.0, 10, 12, 12]]), torch.tensor([0]), (800, 800))
    supervised = _set(target.boxes_cxcywh[None], [target], [(0, 0, 0)])
    assert GIoULoss(eps=1e-6)(supervised, 0.0)["giou"].item() == pytest.approx(1 - 6.25 / 7.25, rel=1e-2)
