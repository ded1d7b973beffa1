"""Windows cover the images as SODA-D's tool cuts them, and what is annotated in them leads back to the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.boxes.tiles import starts_px
from smidgen.data import Record
from smidgen.data.dataset import ANY_CLASS
from smidgen.data.geometry import Window
from smidgen.data.sliding_windows import Tiling, window_record, windows

SODA_D = Tiling()


def record_of(
    boxes: Sequence[Sequence[float]],
    size_hw: tuple[int, int],
    regions: Sequence[Sequence[float]] = (),
    about: int = ANY_CLASS,
) -> Record:
    return Record(
        file=Path("a.png"),
        image_id=17,
        size_hw=size_hw,
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.arange(len(boxes)) % 2,
        ignore_xyxy=np.array(regions, dtype=np.float32).reshape(-1, 4),
        ignore_labels=np.full(len(regions), about),
    )


def corners(record: Record, only_labeled: bool = False) -> list[tuple[int, int]]:
    return [(window.left, window.top) for window in windows(record, SODA_D, only_labeled)]


def test_windows_of_an_image() -> None:
    assert corners(record_of([], (800, 800))) == [(0, 0)]
    assert corners(record_of([], (500, 1450))) == [(0, 0), (650, 0)]
    assert corners(record_of([], (1000, 1451))) == [(0, 0), (0, 200), (650, 0), (650, 200), (651, 0), (651, 200)]


def test_training_images_are_cut_as_far_as_annotations_reach() -> None:
    assert corners(record_of([[10, 10, 900.7, 100]], (2000, 3000)), only_labeled=True) == [(0, 0), (105, 0)]
    assert corners(record_of([[0, 0, 9, 9]], (2000, 3000), [[0, 0, 10, 1000]]), only_labeled=True) == [(0, 0), (0, 205)]


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 900), st.integers(1, 900))
def test_windows_cover_everything_and_end_at_the_border(extent: int, window: int, stride: int) -> None:
    stride = min(stride, window)
    starts = starts_px(extent, window, stride)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert max(later - earlier for earlier, later in zip(starts, [*starts[1:], starts[-1]], strict=True)) <= stride
    assert starts[-1] + window == max(extent, window)


@pytest.mark.parametrize(("right", "kept"), [(840, False), (841, True)])
def test_an_object_counts_where_more_than_two_fifths_are_inside(right: int, kept: bool) -> None:
    # The window has what lies right of 800: 40 of 100 px, and a pixel more.
    inside = window_record(record_of([[right - 100, 10, right, 20]], (800, 1600)), Window(0, 800, 800, 800), SODA_D)
    assert (len(inside), len(inside.ignore_xyxy)) == ((1, 0) if kept else (0, 1))


@pytest.mark.parametrize(("about", "kept"), [(ANY_CLASS, []), (1, [[0, 10, 20, 20]])])
def test_regions_about_one_class_stay_and_those_about_any_are_painted(about: int, kept: list[list[float]]) -> None:
    record = record_of([], (800, 1600), [[790, 10, 820, 20]], about)
    inside = window_record(record, Window(0, 800, 800, 800), SODA_D)
    assert inside.ignore_xyxy.tolist() == kept
    assert inside.ignore_labels is not None
    assert inside.ignore_labels.tolist() == [about] * len(kept)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 180), st.integers(0, 120), st.integers(1, 60), st.integers(1, 60)), max_size=8),
    st.sampled_from([None, 30, 90]),
)
def test_boxes_lead_back_to_the_image(rows: list[tuple[int, int, int, int]], resized: int | None) -> None:
    tiling = Tiling(60, 45, resized)
    record = record_of([(x, y, x + width, y + height) for x, y, width, height in rows], (180, 240))
    seen = np.zeros(len(rows))
    for window in windows(record, tiling):
        inside = window_record(record, window, tiling)
        boxes = np.concatenate([inside.boxes_xyxy, inside.ignore_xyxy])
        assert boxes.size == 0 or (boxes.min() >= 0 and boxes.max() <= inside.size_hw[0])
        placed = boxes / tiling.scale + np.array([window.left, window.top] * 2)
        frame = np.array([window.left, window.top, window.left + 60, window.top + 60])
        clipped = np.clip(record.boxes_xyxy, np.tile(frame[:2], 2), np.tile(frame[2:], 2))
        present = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        seen += present
        expected = sorted(np.round(clipped[present], 2).tolist())
        found = sorted(np.round(placed, 2).tolist())
        np.testing.assert_allclose(np.reshape(found, (-1, 4)), np.reshape(expected, (-1, 4)), atol=0.02)
    assert (seen >= 1).all()


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="stride of at most the window"):
        Tiling(100, 101)
