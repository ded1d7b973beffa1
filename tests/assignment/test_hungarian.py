"""The bipartite matching of DETR against trying every permutation, and what it does with padding, crowds and NaN."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.assignment import HungarianAssignment
from smidgen.structures import Predictions, Target

NUM_CLASSES = 4


def _target(num_objects, generator=None):
    sides = torch.rand(num_objects, 2, generator=generator) * 20 + 1
    corners = torch.rand(num_objects, 2, generator=generator) * 60
    labels = torch.randint(0, NUM_CLASSES, (num_objects,), generator=generator)
    return Target.of(torch.cat([corners, corners + sides], dim=1), labels, (80, 100))


def _predictions(batch, queries, generator=None, padding=None):
    logits = torch.randn(batch, queries, NUM_CLASSES, generator=generator) * 3
    return Predictions(logits, torch.rand(batch, queries, 4, generator=generator) * 0.5 + 0.1, padding)


def _slow_cost(logits, box, label, target_box):
    """Equation by equation, with plain numbers."""
    p = 1 / (1 + math.exp(-logits[label]))
    focal = 0.25 * (1 - p) ** 2 * -math.log(p + 1e-8) - 0.75 * p**2 * -math.log(1 - p + 1e-8)
    l1 = sum(abs(a - b) for a, b in zip(box, target_box, strict=True))
    (ax, ay, aw, ah), (bx, by, bw, bh) = box, target_box
    width = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
    height = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
    inter = max(width, 0) * max(height, 0)
    union = aw * ah + bw * bh - inter
    hull = (max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) * (
        max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    )
    return 2 * focal + 5 * l1 - 2 * (inter / union - (hull - union) / hull)


def _slow_costs(predictions, image, target):
    return np.array(
        [
            [
                _slow_cost(logits.tolist(), box.tolist(), int(label), target_box.tolist())
                for label, target_box in zip(target.labels, target.boxes_cxcywh, strict=True)
            ]
            for logits, box in zip(predictions.logits[image], predictions.boxes_cxcywh[image], strict=True)
        ]
    ).reshape(predictions.logits.shape[1], len(target))


def _least_total(cost):
    queries, objects = cost.shape
    if objects > queries:
        return _least_total(cost.T)
    choices = itertools.permutations(range(queries), objects)
    return min(sum(cost[query, column] for column, query in enumerate(choice)) for choice in choices)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 10_000))
def test_no_other_matching_is_cheaper(queries, objects, seed):
    generator = torch.Generator().manual_seed(seed)
    predictions = _predictions(len(objects), queries, generator)
    targets = [_target(count, generator) for count in objects]
    matches = HungarianAssignment()(predictions, targets)
    for image, target in enumerate(targets):
        cost = _slow_costs(predictions, image, target)
        pairs = [
            (int(q), int(t)) for i, q, t in zip(matches.image, matches.query, matches.target, strict=True) if i == image
        ]
        assert len(pairs) == min(queries, len(target)) == len({q for q, _ in pairs}) == len({t for _, t in pairs})
        assert sum(cost[pair] for pair in pairs) == pytest.approx(_least_total(cost), abs=1e-3)


def test_costs_follow_the_equations():
    generator = torch.Generator().manual_seed(3)
    predictions, target = _predictions(1, 7, generator), _target(5, generator)
    (cost,) = HungarianAssignment().costs(predictions, [target])
    np.testing.assert_allclose(cost.numpy(), _slow_costs(predictions, 0, target), rtol=1e-4, atol=1e-4)


def test_batch_mates_do_not_change_an_assignment():
    generator = torch.Generator().manual_seed(4)
    predictions = _predictions(3, 20, generator)
    targets = [_target(count, generator) for count in (6, 0, 11)]
    together = HungarianAssignment()(predictions, targets)
    for image, target in enumerate(targets):
        one = Predictions(predictions.logits[image, None], predictions.boxes_cxcywh[image, None])
        alone = HungarianAssignment()(one, [target])
        here = together.image == image
        assert torch.equal(together.query[here], alone.query) and torch.equal(together.target[here], alone.target)


def test_padded_queries_are_never_matched_even_if_they_are_perfect_or_not_finite():
    target = _target(2)
    predictions = _predictions(1, 4, padding=torch.tensor([[True, False, True, False]]))
    predictions.boxes_cxcywh[0, 0] = target.boxes_cxcywh[0]
    predictions.logits[0, 2] = float("nan")
    assert HungarianAssignment()(predictions, [target]).query.tolist() == [1, 3]


def test_all_queries_padded_gives_no_pairs():
    predictions = _predictions(1, 3, padding=torch.ones(1, 3, dtype=torch.bool))
    assert len(HungarianAssignment()(predictions, [_target(2)])) == 0


def test_a_batch_without_objects_gives_no_pairs():
    matches = HungarianAssignment()(_predictions(2, 3), [_target(0), _target(0)])
    assert len(matches) == 0 and matches.query.dtype == torch.int64


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_refused_with_their_image(value):
    predictions = _predictions(2, 3)
    predictions.logits[1, 2, 0] = value
    with pytest.raises(ValueError, match=r"images \[1\]"):
        HungarianAssignment()(predictions, [_target(1), _target(0)])


def test_one_target_per_image_is_asked_for():
    with pytest.raises(ValueError, match=r"one target per image.*got 1"):
        HungarianAssignment()(_predictions(2, 3), [_target(1)])


def test_bfloat16_predictions_under_autocast_match_as_their_float32_values():
    generator = torch.Generator().manual_seed(5)
    exact = _predictions(1, 30, generator)
    half = Predictions(exact.logits.bfloat16(), exact.boxes_cxcywh.bfloat16())
    target = _target(12, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (cost,) = HungarianAssignment().costs(half, [target])
        matches = HungarianAssignment()(half, [target])
    assert cost.dtype == torch.float32
    upcast = Predictions(half.logits.float(), half.boxes_cxcywh.float())
    assert torch.equal(matches.query, HungarianAssignment()(upcast, [target]).query)


def test_matching_carries_no_gradient_and_takes_another_solver():
    predictions = _predictions(1, 3)
    predictions.logits.requires_grad_()
    asked = []

    def first_come(cost):
        asked.append(cost.shape)
        return np.arange(min(cost.shape)), np.arange(min(cost.shape))

    matches = HungarianAssignment(solver=first_come)(predictions, [_target(2)])
    assert asked == [(3, 2)] and matches.query.tolist() == [0, 1] and not matches.query.requires_grad
