"""Properties of flips, turns, resizing and cuts: nothing small is lost, nothing leaves the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dataset_cases import sample_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from smidgen.data.cropping import place_window
from smidgen.data.geometry import Window, cut, flip_horizontally, flip_vertically, resize, resize_pixels, shift, turn
from smidgen.data.sample import Sample


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    share = st.floats(0, 1, width=32)
    boxes = []
    for _ in range(draw(st.integers(0, 5))):
        x, y = draw(share) * (width - 0.5), draw(share) * (height - 0.5)
        boxes.append([x, y, x + 0.25 + draw(share) * (width - x - 0.25), y + 0.25 + draw(share) * (height - y - 0.25)])
    return sample_of(boxes, (height, width), ignore=boxes[:1])


def inside(sample: Sample) -> bool:
    height, width = sample.size_hw
    boxes = torch.cat([sample.boxes_xyxy, sample.ignore_xyxy])
    positive = (boxes[:, 2:] > boxes[:, :2]).all()
    return bool(positive and (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all())


@given(samples())
def test_two_flips_are_none(sample: Sample) -> None:
    for flip in (flip_horizontally, flip_vertically):
        again = flip(flip(sample))
        assert torch.equal(again.image, sample.image)
        torch.testing.assert_close(again.boxes_xyxy, sample.boxes_xyxy, atol=1e-4, rtol=0)


@given(samples(), st.integers(1, 3))
def test_turns_go_round_and_two_are_both_flips(sample: Sample, quarters: int) -> None:
    turned = turn(turn(sample, quarters), 4 - quarters)
    assert torch.equal(turned.image, sample.image)
    torch.testing.assert_close(turned.boxes_xyxy, sample.boxes_xyxy, atol=1e-4, rtol=0)
    half, flipped = turn(sample, 2), flip_vertically(flip_horizontally(sample))
    assert torch.equal(half.image, flipped.image)
    torch.testing.assert_close(half.boxes_xyxy, flipped.boxes_xyxy, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "change", [flip_horizontally, flip_vertically, lambda one: turn(one, 1), lambda one: turn(one, 3)]
)
def test_boxes_follow_their_pixels(change: Callable[[Sample], Sample]) -> None:
    sample = sample_of([[3, 1, 5, 2]], (6, 9))
    sample.image.zero_()[:, 1, 3:5] = 255
    changed = change(sample)
    x0, y0, x1, y1 = changed.boxes_xyxy[0].int().tolist()
    assert (changed.image[:, y0:y1, x0:x1] == 255).all()
    assert int((changed.image[0] == 255).sum()) == 2


@given(samples(), st.integers(1, 90), st.integers(1, 90))
def test_resize_keeps_normalized_boxes_and_loses_none(sample: Sample, height: int, width: int) -> None:
    resized = resize(sample, (height, width))
    assert resized.size_hw == (height, width)
    assert resized.image.dtype == torch.uint8
    assert len(resized.labels) == len(sample.labels)
    torch.testing.assert_close(resized.target().boxes_cxcywh, sample.target().boxes_cxcywh, atol=1e-4, rtol=1e-3)
    assert inside(resized)


@pytest.mark.parametrize("scale", [1, 10, 100])
def test_2_px_boxes_survive_any_shrinking(scale: int) -> None:
    sample = resize(sample_of([[998, 500, 1000, 502], [0, 0, 2, 2]], (1000, 1000)), (1000 // scale, 1000 // scale))
    assert len(sample.labels) == 2
    assert sample.vanished == 0
    torch.testing.assert_close(sample.boxes_xyxy[1], torch.tensor([0, 0, 2 / scale, 2 / scale]))


@pytest.mark.parametrize("before", [(1, 1), (5, 1), (3, 2), (2, 7)])
@pytest.mark.parametrize("after", [(1, 1), (4, 1), (1, 4), (7, 1)])
def test_one_pixel_sides_are_resized_right(before: tuple[int, int], after: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *before), dtype=torch.uint8)
    expected = F.interpolate(image[None].double(), after, mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(resize_pixels(image, after).double(), expected, atol=1.5, rtol=0)


def test_boxes_that_rounding_leaves_without_area_are_counted() -> None:
    tiny = np.nextafter(np.float32(9000), np.float32(9001))
    sample = resize(sample_of([[9000, 0, tiny, 1], [0, 0, 5, 1]], (1, 10000)), (1, 3333))
    assert len(sample.labels) + sample.vanished == 2


@settings(max_examples=60)
@given(samples(), st.data(), st.floats(0, 1))
def test_cut_then_resize_stays_inside(sample: Sample, data: st.DataObject, visibility: float) -> None:
    height, width = data.draw(st.integers(1, sample.size_hw[0])), data.draw(st.integers(1, sample.size_hw[1]))
    top, left = (
        data.draw(st.integers(0, sample.size_hw[0] - height)),
        data.draw(st.integers(0, sample.size_hw[1] - width)),
    )
    part = cut(sample, Window(top, left, height, width), visibility)
    assert part.size_hw == (height, width)
    assert inside(part)
    assert inside(resize(part, (33, 44)))
    visible = cut(sample, Window(top, left, height, width))
    assert len(part.labels) + len(part.ignore_xyxy) == len(visible.labels) + len(visible.ignore_xyxy)


def test_barely_visible_boxes_become_ignore_regions() -> None:
    sample = sample_of([[0, 0, 10, 10], [8, 8, 12, 12], [30, 30, 40, 40]], (50, 50))
    part = cut(sample, Window(0, 0, 10, 10), visibility=0.5)
    assert part.labels.tolist() == [0]
    assert part.ignore_xyxy.tolist() == [[8, 8, 10, 10]]


def test_the_whole_window_is_no_change() -> None:
    sample = sample_of([[1, 2, 3, 4]], (7, 8))
    part = cut(sample, Window(0, 0, 7, 8), visibility=1.0)
    assert torch.equal(part.image, sample.image)
    assert torch.equal(part.boxes_xyxy, sample.boxes_xyxy)


def test_shift_moves_boxes_and_regions() -> None:
    moved = shift(sample_of([[1, 2, 3, 4]], (7, 8), ignore=[[0, 0, 1, 1]]), top=10, left=20)
    assert moved.boxes_xyxy.tolist() == [[21, 12, 23, 14]]
    assert moved.ignore_xyxy.tolist() == [[20, 10, 21, 11]]


@given(samples(), st.integers(0, 2**31), st.integers(1, 80), st.integers(1, 80))
def test_windows_around_objects_hold_one_whole(sample: Sample, seed: int, height: int, width: int) -> None:
    window = place_window(sample, (height, width), 1.0, np.random.default_rng(seed))
    assert 0 <= window.top <= sample.size_hw[0] - window.height
    assert 0 <= window.left <= sample.size_hw[1] - window.width
    sides = sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]
    all_fit = bool((sides + 2 <= torch.tensor([window.width, window.height])).all())
    if len(sample.labels) and all_fit:
        part = cut(sample, window)
        areas = (part.boxes_xyxy[:, 2:] - part.boxes_xyxy[:, :2]).prod(1)
        whole = sides.prod(1)[part.labels]
        assert bool((areas >= whole * 0.999).any())
