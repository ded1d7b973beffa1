"""Windows cover the images as SODA-D's tool cuts them, and what is annotated in them leads back to the image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_cases import write_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smidgen.data import DetectionDataset, Record, open_dataset, read_image
from smidgen.data.dataset import ANY_CLASS
from smidgen.data.geometry import Window
from smidgen.data.soda_tiling import Tiling, starts_px, tile_dataset, window_record, windows
from smidgen.structures import Classes

SODA_D = Tiling()


def record_of(
    boxes: Sequence[Sequence[float]],
    size_hw: tuple[int, int],
    regions: Sequence[Sequence[float]] = (),
    about: int = ANY_CLASS,
    file: Path = Path("a.png"),
) -> Record:
    return Record(
        file=file,
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


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An image of 150 x 90 px in windows of 100 px, written at 50."""
    file = tmp_path / "in" / "scene.png"
    write_image(file, 150, 90)
    record = record_of([[20, 20, 30, 40]], (90, 150), [[10, 10, 40, 60]], file=file)
    classes = Classes(("people", "rider"), (1, 2))
    splits = [DetectionDataset(tmp_path, "made", split, classes, (record,)) for split in ("train", "val")]
    broken = Record(
        tmp_path / "in" / "gone.png", 18, (90, 150), *([record.boxes_xyxy, record.labels, record.ignore_xyxy])
    )
    splits[1] = DetectionDataset(tmp_path, "made", "val", classes, (record, broken))
    left_out = tile_dataset(splits, tmp_path / "out", Tiling(100, 70, 50))
    assert left_out["val"].notes.counts == {"unreadable_image": 1}
    return tmp_path / "out"


def test_windows_on_disk(made: Path) -> None:
    train, val = open_dataset(made, "train"), open_dataset(made, "val")
    assert [len(split) for split in (train, val)] == [1, 2], "training windows without annotations are dropped"
    assert [record.size_hw for record in val.records] == [(50, 50)] * 2
    assert val.records[0].boxes_xyxy.tolist() == [[10, 10, 15, 20]]
    assert len(val.records[0].ignore_xyxy) == 0
    table = json.loads((made / "val" / "windows.json").read_text())["windows"]
    place = {"image_id": 2, "file": "scene_1.png", "original_image_id": 17, "left": 50, "top": 0, "scale": 0.5}
    assert table[1] == place
    images = json.loads((made / "val" / "annotations.json").read_text())["images"]
    assert [image["start_coord"] for image in images] == [[0, 0], [50, 0]]
    assert {image["ori_id"] for image in images} == {17}


def test_ignore_regions_are_painted_black_around_objects(tmp_path: Path) -> None:
    file = tmp_path / "scene.png"
    Image.new("RGB", (120, 90), (200, 100, 50)).save(file)
    record = record_of([[20, 20, 30, 40]], (90, 120), [[10, 10, 40, 60]], file=file)
    split = DetectionDataset(tmp_path, "made", "val", Classes(("people", "rider"), (1, 2)), (record,))
    tile_dataset([split], tmp_path / "out", Tiling(100, 70))
    pixels = read_image(tmp_path / "out" / "val" / "images" / "scene_0.png")
    expected = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].repeat(1, 100, 100)
    expected[:, 10:60, 10:40] = 0
    expected[:, 20:40, 20:30] = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None]
    expected[:, 90:] = 0
    assert torch.equal(pixels, expected)
