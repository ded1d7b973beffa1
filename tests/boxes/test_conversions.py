"""Conversions lose nothing, stay in full precision and are finite at the ends."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.boxes import (
    clip_to_image,
    cxcywh_to_xyxy,
    full_precision,
    inverse_sigmoid,
    normalized_to_pixels,
    pixels_to_normalized,
    xyxy_to_cxcywh,
)

share = st.floats(0, 1, width=32)
boxes_of_shares = st.lists(st.tuples(share, share, share, share), max_size=8).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
)
image_size = st.tuples(st.integers(1, 10_000), st.integers(1, 10_000))


@given(boxes_of_shares)
def test_corners_and_back_is_the_same_box(boxes_cxcywh):
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes_cxcywh)), boxes_cxcywh, atol=1e-6, rtol=0)


@given(boxes_of_shares, image_size)
def test_pixels_and_back_is_the_same_box(boxes, size_hw):
    back = pixels_to_normalized(normalized_to_pixels(boxes, size_hw), size_hw)
    torch.testing.assert_close(back, boxes, atol=1e-6, rtol=1e-5)


@given(boxes_of_shares, image_size)
def test_layout_and_frame_may_be_changed_in_either_order(boxes_cxcywh, size_hw):
    one = cxcywh_to_xyxy(normalized_to_pixels(boxes_cxcywh, size_hw))
    other = normalized_to_pixels(cxcywh_to_xyxy(boxes_cxcywh), size_hw)
    torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-6)


def test_x_goes_with_width_and_y_with_height():
    assert normalized_to_pixels(torch.tensor([0.5, 0.5, 0.1, 0.1]), (100, 200)).tolist() == pytest.approx(
        [100, 50, 20, 10]
    )


@given(boxes_of_shares, image_size)
def test_clipped_boxes_lie_in_the_image_and_boxes_inside_do_not_move(boxes, size_hw):
    height, width = size_hw
    wild = (boxes - 0.25) * 2 * max(size_hw)
    clipped = clip_to_image(wild, size_hw)
    assert bool((clipped >= 0).all()) and bool((clipped[:, 0::2] <= width).all())
    assert bool((clipped[:, 1::2] <= height).all())
    assert torch.equal(clip_to_image(clipped, size_hw), clipped)


@given(share)
def test_inverse_sigmoid_undoes_sigmoid_away_from_the_ends(value):
    eps = 1e-3
    back = torch.sigmoid(inverse_sigmoid(torch.tensor(value), eps))
    assert abs(back.item() - value) <= (1e-6 if eps <= value <= 1 - eps else 1.1 * eps)


@pytest.mark.parametrize("eps", [1e-3, 1e-5])
def test_inverse_sigmoid_is_clamped_as_in_detr_at_both_ends(eps):
    ends = inverse_sigmoid(torch.tensor([-2.0, 0.0, 1.0, 3.0]), eps)
    limit = math.log(1 / eps)
    torch.testing.assert_close(ends, torch.tensor([-limit, -limit, limit, limit]))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_left_before_any_arithmetic(half):
    box = torch.tensor([[0.9, 0.9, 0.002, 0.002]]).to(half)
    assert cxcywh_to_xyxy(box).dtype == torch.float32
    torch.testing.assert_close(cxcywh_to_xyxy(box), cxcywh_to_xyxy(box.double()).float())
    assert full_precision(box.double()).dtype == torch.float64
