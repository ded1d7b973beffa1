"""Overlaps against torchvision, against counting pixels, and in what their papers promise."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from smidgen.boxes import aligned_giou, aligned_iou, pairwise_giou, pairwise_iof, pairwise_iou

coordinate = st.integers(0, 12)


def _box(corners):
    left, top, right, bottom = corners
    return [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]


pixel_boxes = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate).map(_box), min_size=1, max_size=6).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32)
)


def _cells(box):
    left, top, right, bottom = (int(side) for side in box)
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


@given(pixel_boxes, pixel_boxes)
def test_iou_counts_shared_pixels(first, second):
    iou = pairwise_iou(first, second)
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            shared, either = _cells(one) & _cells(other), _cells(one) | _cells(other)
            assert iou[row, column].item() == pytest.approx(len(shared) / max(len(either), 1), abs=1e-6)


@given(pixel_boxes, pixel_boxes)
def test_iof_is_the_share_of_the_foreground_inside_the_region(foreground, regions):
    iof = pairwise_iof(foreground, regions)
    for row, one in enumerate(foreground):
        for column, region in enumerate(regions):
            inside = len(_cells(one) & _cells(region)) / max(len(_cells(one)), 1)
            assert iof[row, column].item() == pytest.approx(inside, abs=1e-6)


@given(pixel_boxes, pixel_boxes)
def test_giou_is_symmetric_and_bounded_by_iou(first, second):
    giou = pairwise_giou(first, second)
    torch.testing.assert_close(giou, pairwise_giou(second, first).T, rtol=0, atol=0)
    assert bool((giou >= -1 - 1e-6).all()) and bool((giou <= pairwise_iou(first, second) + 1e-6).all())


@given(pixel_boxes)
def test_a_box_with_area_overlaps_itself_completely(boxes):
    boxes = boxes + torch.tensor([0.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(aligned_giou(boxes, boxes), torch.ones(len(boxes)))


@given(pixel_boxes, pixel_boxes)
def test_the_diagonal_of_all_pairs_is_the_aligned_form(first, second):
    count = min(len(first), len(second))
    first, second = first[:count], second[:count]
    assert torch.equal(pairwise_iou(first, second).diagonal(), aligned_iou(first, second))
    assert torch.equal(pairwise_giou(first, second).diagonal(), aligned_giou(first, second))


def test_boxes_with_area_agree_with_torchvision():
    torch.manual_seed(0)
    first, second = (torch.rand(50, 4).cumsum(-1)[:, [0, 1, 2, 3]] for _ in range(2))
    torch.testing.assert_close(pairwise_iou(first, second), torchvision.ops.box_iou(first, second))
    torch.testing.assert_close(pairwise_giou(first, second), torchvision.ops.generalized_box_iou(first, second))


def test_images_of_a_batch_are_separate_in_the_pairwise_form():
    torch.manual_seed(1)
    rows, columns = torch.rand(3, 5, 4).cumsum(-1), torch.rand(3, 2, 4).cumsum(-1)
    together = pairwise_giou(rows, columns)
    for image in range(3):
        assert torch.equal(together[image], pairwise_giou(rows[image], columns[image]))


def test_the_parity_form_adds_eps_to_union_and_hull():
    first, second = torch.tensor([[0.0, 0.0, 0.003, 0.003]]), torch.tensor([[0.001, 0.0, 0.004, 0.003]])
    intersection, union, hull = 6e-6, 12e-6, 12e-6
    expected = intersection / (union + 1e-6) - (hull - union) / (hull + 1e-6)
    assert aligned_giou(first, second, eps=1e-6).item() == pytest.approx(expected, rel=1e-4)
    assert aligned_giou(first, second).item() == pytest.approx(intersection / union, rel=1e-4)


def test_empty_boxes_give_zero_and_finite_gradients():
    point = torch.full((1, 4), 0.5, requires_grad=True)
    giou = aligned_giou(point, torch.full((1, 4), 0.5))
    (gradient,) = torch.autograd.grad(giou.sum(), point)
    assert giou.item() == 0 and bool(gradient.isfinite().all())


def test_no_boxes_give_no_pairs():
    assert pairwise_giou(torch.rand(3, 4), torch.zeros(0, 4)).shape == (3, 0)
    assert aligned_iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_two_pixel_boxes_keep_their_iou_under_bfloat16_autocast():
    first = torch.tensor([[0.9, 0.9, 0.9025, 0.9025]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert aligned_iou(first, first).item() == pytest.approx(1.0, abs=1e-5)
