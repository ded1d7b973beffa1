"""Focal and varifocal classification against going over every query and class, and what is left out of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.boxes import aligned_iou, cxcywh_to_xyxy
from smidgen.losses import FocalClassification, VarifocalClassification
from smidgen.structures import Matches, Predictions, SupervisedSet, Target

NUM_CLASSES = 3
NOTHING = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (100, 100))
BOTH = pytest.mark.parametrize("term", [FocalClassification(), VarifocalClassification()])


def _set(logits, boxes, targets, pairs, padding=None, normalizer=2.0):
    image, query, target = (torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in range(3))
    predictions = Predictions(logits, boxes, padding)
    return SupervisedSet("final", 0, predictions, tuple(targets), Matches(image, query, target), normalizer)


def _target(num_objects, ignore=None):
    corners = torch.rand(num_objects, 2) * 60
    boxes = torch.cat([corners, corners + torch.rand(num_objects, 2) * 30 + 5], dim=1)
    return Target.of(boxes, torch.randint(0, NUM_CLASSES, (num_objects,)), (100, 100), ignore=ignore)


def _random_set(seed):
    torch.manual_seed(seed)
    targets = [_target(2), _target(1), _target(0)]
    logits = torch.randn(3, 4, NUM_CLASSES) * 3
    return _set(logits, torch.rand(3, 4, 4) * 0.4 + 0.2, targets, [(0, 3, 0), (0, 1, 1), (1, 2, 0)])


def _value(term, supervised):
    return term(supervised, 0.0)["classification"]


def _entries(supervised):
    """(score, is the matched class, IoU of the pair) of every query and class."""
    pairs = {(int(i), int(q)): int(t) for i, q, t in zip(*_columns(supervised.matches), strict=True)}
    for image, rows in enumerate(supervised.predictions.logits):
        for query, logits in enumerate(rows):
            index = pairs.get((image, query))
            for label, logit in enumerate(logits.tolist()):
                positive = index is not None and int(supervised.targets[image].labels[index]) == label
                yield 1 / (1 + math.exp(-logit)), positive, _iou(supervised, image, query, index) if positive else 0.0


def _columns(matches):
    return matches.image, matches.query, matches.target


def _iou(supervised, image, query, index):
    box = cxcywh_to_xyxy(supervised.predictions.boxes_cxcywh[image, query])
    return aligned_iou(box, cxcywh_to_xyxy(supervised.targets[image].boxes_cxcywh[index])).item()


@given(st.integers(0, 10_000))
def test_focal_loss_weighs_the_hard_examples(seed):
    supervised = _random_set(seed)
    total = sum(
        -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)
        for p, positive, _ in _entries(supervised)
    )
    assert _value(FocalClassification(), supervised).item() == pytest.approx(total / 2, rel=1e-3)


@given(st.integers(0, 10_000))
def test_varifocal_loss_weighs_positives_by_their_iou(seed):
    supervised = _random_set(seed)
    total = sum(
        (iou if positive else 0.75 * p**2) * -(iou * math.log(p) + (1 - iou) * math.log(1 - p))
        for p, positive, iou in _entries(supervised)
    )
    assert _value(VarifocalClassification(), supervised).item() == pytest.approx(total / 2, rel=1e-3)


def test_varifocal_loss_sends_no_gradient_into_the_boxes():
    supervised = _random_set(0)
    boxes = supervised.predictions.boxes_cxcywh.requires_grad_()
    supervised.predictions.logits.requires_grad_()
    _value(VarifocalClassification(), supervised).backward()
    assert boxes.grad is None


@BOTH
def test_padded_queries_count_for_nothing_even_if_they_are_not_finite(term):
    logits, boxes = torch.randn(1, 3, NUM_CLASSES), torch.rand(1, 3, 4)
    target = _target(1)
    alone = _value(term, _set(logits[:, :2], boxes[:, :2], [target], [(0, 1, 0)]))
    with_padding = torch.cat([logits[:, :2], torch.full((1, 1, NUM_CLASSES), float("nan"))], dim=1).requires_grad_()
    supervised = _set(with_padding, boxes, [target], [(0, 1, 0)], padding=torch.tensor([[False, False, True]]))
    value = _value(term, supervised)
    value.backward()
    assert value.item() == pytest.approx(alone.item())
    assert with_padding.grad.isfinite().all() and not with_padding.grad[0, 2].any()


@BOTH
def test_unmatched_queries_in_an_ignore_region_are_neither_right_nor_wrong(term):
    target = Target.of(
        torch.tensor([[10.0, 10, 20, 20]]), torch.tensor([1]), (100, 100), ignore=torch.tensor([[0.0, 0, 50, 100]])
    )
    inside, mostly_outside = [0.25, 0.5, 0.2, 0.2], [0.55, 0.5, 0.2, 0.2]
    boxes = torch.tensor([[[0.15, 0.15, 0.1, 0.1], inside, mostly_outside]])
    logits = torch.randn(1, 3, NUM_CLASSES).requires_grad_()
    _value(term, _set(logits, boxes, [target], [(0, 0, 0)])).backward()
    assert logits.grad[0, 0].any() and not logits.grad[0, 1].any() and logits.grad[0, 2].any()


def test_the_share_inside_an_ignore_region_is_an_option():
    target = Target.of(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (100, 100), ignore=torch.tensor([[0.0, 0, 50, 100]])
    )
    third_inside = torch.tensor([[[0.55, 0.5, 0.3, 0.2]]])
    supervised = _set(torch.zeros(1, 1, NUM_CLASSES), third_inside, [target], [])
    assert _value(FocalClassification(), supervised) > 0
    assert _value(FocalClassification(ignore_overlap=0.3), supervised) == 0


@BOTH
def test_without_objects_and_queries_the_loss_is_zero_and_connected(term):
    logits = torch.zeros(2, 0, NUM_CLASSES, requires_grad=True)
    value = _value(term, _set(logits, torch.zeros(2, 0, 4), [NOTHING, NOTHING], []))
    value.backward()
    assert value.item() == 0 and logits.grad is not None


@BOTH
@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_bfloat16_logits_give_a_finite_float32_loss(term, extreme):
    logits = torch.full((1, 2, NUM_CLASSES), extreme, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = _value(term, _set(logits, torch.rand(1, 2, 4).bfloat16(), [_target(1)], [(0, 0, 0)]))
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and bool(logits.grad.isfinite().all())
