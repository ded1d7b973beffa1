"""`smidgen convert-data` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smidgen.cli.app import main
from smidgen.cli.convert_data import Format
from smidgen.data import open_dataset
from smidgen.data.writing import FORMATS


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """train and val with one image each, and a test split whose images are missing."""
    for split in ("train", "val", "test"):
        images = tmp_path / "scenes" / split / "images"
        images.mkdir(parents=True)
        if split != "test":
            Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(images / "a.png")
        content = {
            "images": [{"id": 5, "file_name": "a.png", "width": 60, "height": 40}],
            "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": [1, 2, 10, 12]}],
            "categories": [{"id": 2, "name": "car"}],
        }
        (images.parent / "annotations.json").write_text(json.dumps(content))
    return tmp_path / "scenes"


def test_formats_of_the_command_are_those_of_the_library() -> None:
    assert [format.value for format in Format] == list(FORMATS)


def test_all_splits_are_written_and_what_is_left_out_is_said(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert-data", str(scenes), str(tmp_path / "out"), "--format", "yolo", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["splits"]["val"] == {"images": 1, "objects": 1, "ignore_regions": 0, "classes": 1}
    assert list(answer["splits"]) == ["train", "val"]
    assert answer["copied"] == 2
    assert [entry["kind"] for entry in answer["left_out"]] == ["split", "category_ids", "image_ids"]
    assert "train: coco layout: found" in captured.err
    assert open_dataset(tmp_path / "out", "val").records[0].boxes_xyxy.round(3).tolist() == [[1, 2, 11, 14]]


def test_a_folder_with_files_is_refused(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert-data", str(scenes), str(scenes), "--format", "voc", "--json"]) == 2
    assert "new or empty folder" in json.loads(capsys.readouterr().out)["error"]


def test_windows_are_coco(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert-data", str(scenes), str(tmp_path / "out"), "--split", "val", "--tile", "32", "--json"]
    assert main([*arguments, "--format", "voc"]) == 2
    assert "windows are written as coco" in json.loads(capsys.readouterr().out)["error"]
    assert main([*arguments, "--format", "coco", "--resize", "48"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["val"]["images"] == 6
    assert len(json.loads((tmp_path / "out" / "val" / "windows.json").read_text())["windows"]) == 6
    assert main(["convert-data", str(scenes), str(tmp_path / "two"), "--format", "coco", "--stride", "9"]) == 2
