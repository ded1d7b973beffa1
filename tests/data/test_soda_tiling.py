"""Windows on disk: their pixels, their annotations, and the table that leads back to the image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_cases import write_image
from PIL import Image

from smidgen.data import DetectionDataset, Record, Tiling, open_dataset, read_image, tile_dataset
from smidgen.data.dataset import ANY_CLASS
from smidgen.structures import Classes


def record_of(
    boxes: Sequence[Sequence[float]],
    size_hw: tuple[int, int],
    regions: Sequence[Sequence[float]] = (),
    file: Path = Path("a.png"),
) -> Record:
    return Record(
        file=file,
        image_id=17,
        size_hw=size_hw,
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.arange(len(boxes)) % 2,
        ignore_xyxy=np.array(regions, dtype=np.float32).reshape(-1, 4),
        ignore_labels=np.full(len(regions), ANY_CLASS),
    )


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
