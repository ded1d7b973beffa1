"""Boost loss: equation 5 against going over every query and class, its gradients, its limits, and its sign."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.losses import CategorySizeClassification, FocalClassification
from smidgen.losses.category_size import boost_loss, box_size, positive_weight
from smidgen.structures import Matches, Predictions, SupervisedSet, Target

NUM_CLASSES = 3
BETAS = st.sampled_from([1.0, 0.25, 0.1, 0.05])
SIZES = st.floats(0.0, 1.0)
LOGITS = st.floats(-30, 30)


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
    """(score, predicted size, size of the object or None where the entry is negative) of every query and class."""
    matches = supervised.matches
    pairs = {(int(i), int(q)): int(t) for i, q, t in zip(matches.image, matches.query, matches.target, strict=True)}
    for image, rows in enumerate(supervised.predictions.logits):
        for query, logits in enumerate(rows):
            target, index = supervised.targets[image], pairs.get((image, query))
            _, _, width, height = supervised.predictions.boxes_cxcywh[image, query].tolist()
            for label, logit in enumerate(logits.tolist()):
                positive = index is not None and int(target.labels[index]) == label
                _, _, *sides = target.boxes_cxcywh[index].tolist() if positive else (0, 0, 0, 0)
                object_size = math.sqrt(sides[0] * sides[1]) if positive else None
                yield 1 / (1 + math.exp(-logit)), math.sqrt(width * height), object_size


def _equation_5(score, predicted_size, object_size, beta):
    if object_size is None:
        return 0.75 * score**2 * -math.log(1 - score)
    return 0.25 * (1 - (predicted_size * score) ** beta) ** 2 * object_size**beta * -math.log(score)


@given(st.integers(0, 10_000), BETAS)
def test_the_loss_is_equation_5_over_all_queries_and_classes(seed, beta):
    supervised = _random_set(seed)
    total = sum(_equation_5(*entry, beta) for entry in _entries(supervised))
    value = _value(CategorySizeClassification(beta=beta), supervised).item()
    assert value == pytest.approx(total / 2, rel=1e-3)


def _single(logit, positive, predicted_size, object_size, **options):
    """Value and gradient of one entry in float64."""
    logit, *others = (
        torch.tensor([[value]], dtype=torch.float64) for value in (logit, positive, predicted_size, object_size)
    )
    logit.requires_grad_()
    loss = boost_loss(logit, *others, CategorySizeClassification(**options))
    return loss.item(), torch.autograd.grad(loss.sum(), logit)[0].item()


@given(LOGITS, SIZES, SIZES, BETAS)
def test_gradient_of_a_positive_is_the_specified_one_and_never_pushes_down(logit, predicted_size, object_size, beta):
    p, k = 1 / (1 + math.exp(-logit)), max(object_size, 1e-6) ** beta
    u = (max(predicted_size, 1e-6) * p) ** beta
    modulated = (1 - u) ** 2 * (1 - p) - 2 * (1 - u) * beta * u * (1 - p) * math.log(p)
    _, gradient = _single(logit, 1.0, predicted_size, object_size, beta=beta)
    assert gradient == pytest.approx(-0.25 * k * modulated, rel=1e-6, abs=1e-12)
    assert gradient <= 0


@given(LOGITS)
def test_gradient_of_a_negative_is_focal_losss(logit):
    p = 1 / (1 + math.exp(-logit))
    log_rest = -math.log1p(math.exp(logit))
    _, gradient = _single(logit, 0.0, 0.0, 0.0)
    assert gradient == pytest.approx(0.75 * (p**3 - 2 * p**2 * (1 - p) * log_rest), rel=1e-6, abs=1e-15)


@given(st.integers(0, 10_000))
def test_objects_and_boxes_as_large_as_the_image_give_focal_loss(seed):
    torch.manual_seed(seed)
    whole = Target.of(torch.tensor([[0.0, 0, 100, 100]]), torch.tensor([1]), (100, 100))
    supervised = _set(torch.randn(1, 4, NUM_CLASSES) * 4, torch.ones(1, 4, 4), [whole], [(0, 2, 0)])
    expected = _value(FocalClassification(), supervised)
    torch.testing.assert_close(_value(CategorySizeClassification(beta=1.0), supervised), expected)


def test_a_detached_modulator_leaves_the_gradient_of_cross_entropy():
    _, gradient = _single(-1.0, 1.0, 0.3, 0.5, beta=0.1, detach_modulator=True)
    p = 1 / (1 + math.exp(1.0))
    assert gradient == pytest.approx(-0.25 * 0.5**0.1 * (1 - (0.3 * p) ** 0.1) ** 2 * (1 - p), rel=1e-9)


def test_no_gradient_reaches_the_boxes():
    supervised = _random_set(0)
    boxes = supervised.predictions.boxes_cxcywh.requires_grad_()
    supervised.predictions.logits.requires_grad_()
    _value(CategorySizeClassification(), supervised).backward()
    assert boxes.grad is None


SIDES = torch.tensor([8 / 1024, 0.03, 0.1, 0.3, 0.8], dtype=torch.float64)


def _against_focal(**options):
    """Weight of positives of these sizes relative to focal loss, where the score is 0.1."""
    logits = torch.full_like(SIDES, math.log(0.1 / 0.9))
    return positive_weight(logits, SIDES, SIDES, CategorySizeClassification(**options)) / 0.9**2


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (1.0, [0.010, 0.037, 0.12, 0.35, 0.84]),
        (0.1, [0.20, 0.17, 0.13, 0.096, 0.060]),
        (0.05, [0.088, 0.066, 0.047, 0.030, 0.017]),
    ],
)
def test_the_sign_caveat_of_the_docstring(beta, expected):
    """As printed, equation 5 with beta 1 suppresses small positives, and only a small beta favors them."""
    assert _against_focal(beta=beta).tolist() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("beta", [1.0, 0.1, 0.05])
def test_without_the_objects_size_the_weight_falls_with_size_for_every_beta(beta):
    assert (_against_focal(beta=beta, gt_size_weight=False).diff() < 0).all()


def test_renormalized_positives_weigh_one_on_average():
    """The negatives keep what they have, and so does the order of the positives."""
    shape = (1, len(SIDES))
    logits, sizes = torch.randn(shape, dtype=torch.float64), SIDES.reshape(shape)
    entries = [
        boost_loss(
            logits, torch.ones(shape).double(), sizes, sizes, CategorySizeClassification(beta=0.1, positive_renorm=on)
        )
        for on in (False, True)
    ]
    weights = entries[1] / (0.25 * -torch.nn.functional.logsigmoid(logits))
    assert weights.mean().item() == pytest.approx(1.0)
    ratio = entries[1] / entries[0]
    torch.testing.assert_close(ratio, ratio[:, :1].expand(shape))


def test_renormalization_without_objects_changes_nothing():
    supervised = _set(torch.randn(1, 4, NUM_CLASSES), torch.rand(1, 4, 4), [_target(0)], [])
    expected = _value(CategorySizeClassification(), supervised)
    assert _value(CategorySizeClassification(positive_renorm=True), supervised).item() == expected.item() > 0


@pytest.mark.parametrize("extreme", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("options", [{}, {"beta": 0.05}, {"gamma": 0.5}, {"positive_renorm": True}], ids=str)
def test_saturated_bfloat16_logits_give_a_finite_float32_loss_and_gradient(extreme, options):
    logits = torch.full((1, 2, NUM_CLASSES), extreme, dtype=torch.bfloat16, requires_grad=True)
    boxes = torch.tensor([[[0.5, 0.5, 0.0, 0.1], [0.5, 0.5, 1.0, 1.0]]]).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = _value(CategorySizeClassification(**options), _set(logits, boxes, [_target(2)], [(0, 0, 0), (0, 1, 1)]))
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_a_degenerate_box_has_the_smallest_size():
    value, gradient = _single(-2.0, 1.0, 0.0, 0.2, beta=0.05)
    p = 1 / (1 + math.exp(2.0))
    assert value == pytest.approx(0.25 * (1 - (1e-6 * p) ** 0.05) ** 2 * 0.2**0.05 * -math.log(p))
    assert gradient < 0
    assert box_size(torch.tensor([0.5, 0.5, -0.1, 0.2])) == 0


def test_padded_queries_count_for_nothing_even_if_they_are_not_finite():
    logits, boxes, target = torch.randn(1, 3, NUM_CLASSES), torch.rand(1, 3, 4), _target(1)
    alone = _value(CategorySizeClassification(), _set(logits[:, :2], boxes[:, :2], [target], [(0, 1, 0)]))
    logits[:, 2], boxes[:, 2] = float("nan"), float("nan")
    padding = torch.tensor([[False, False, True]])
    supervised = _set(logits.requires_grad_(), boxes, [target], [(0, 1, 0)], padding=padding)
    value = _value(CategorySizeClassification(), supervised)
    value.backward()
    assert value.item() == pytest.approx(alone.item())
    assert logits.grad.isfinite().all()
    assert not logits.grad[0, 2].any()


def test_unmatched_queries_in_an_ignore_region_are_neither_right_nor_wrong():
    target = Target.of(
        torch.tensor([[10.0, 10, 20, 20]]), torch.tensor([1]), (100, 100), ignore=torch.tensor([[0.0, 0, 50, 100]])
    )
    boxes = torch.tensor([[[0.15, 0.15, 0.1, 0.1], [0.25, 0.5, 0.2, 0.2], [0.55, 0.5, 0.2, 0.2]]])
    logits = torch.randn(1, 3, NUM_CLASSES).requires_grad_()
    _value(CategorySizeClassification(), _set(logits, boxes, [target], [(0, 0, 0)])).backward()
    assert logits.grad[0].any(dim=-1).tolist() == [True, False, True]


def test_without_objects_and_queries_the_loss_is_zero_and_connected():
    logits = torch.zeros(2, 0, NUM_CLASSES, requires_grad=True)
    value = _value(CategorySizeClassification(), _set(logits, torch.zeros(2, 0, 4), [_target(0), _target(0)], []))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None


@pytest.mark.parametrize("beta", [0.0, -0.1, 1.5])
def test_beta_is_a_share(beta):
    with pytest.raises(ValueError, match=r"expected beta in \(0, 1\]"):
        CategorySizeClassification(beta=beta)
