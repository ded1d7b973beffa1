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


def test_a_folder_inside_the_dataset_is_refused(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["convert-data", scenes, scenes / "out", "--format", "voc"], ["check", scenes, "--fix", scenes]):
        assert main([*map(str, arguments), "--json"]) == 2
    assert main(["check", str(scenes), "--fix", str(scenes / "sub" / "out"), "--json"]) == 2
    assert "outside of the dataset" in capsys.readouterr().out.splitlines()[-1]
    assert sorted(folder.name for folder in scenes.iterdir()) == ["test", "train", "val"]


def test_windows_are_coco(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert-data", str(scenes), str(tmp_path / "out"), "--split", "val", "--tile", "32", "--json"]
    assert main([*arguments, "--format", "voc"]) == 2
    assert "windows are written as coco" in json.loads(capsys.readouterr().out)["error"]
    assert main([*arguments, "--format", "coco", "--resize", "48"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["val"]["images"] == 6
    assert len(json.loads((tmp_path / "out" / "val" / "windows.json").read_text())["windows"]) == 6
    assert main(["convert-data", str(scenes), str(tmp_path / "two"), "--format", "coco", "--stride", "9"]) == 2


@pytest.mark.parametrize("resize", [None, 48])
def test_perfect_boxes_of_windows_are_perfect_on_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], resize: int | None
) -> None:
    """`convert-data --tile`, then `score --windows` with every window's own boxes, whole ones surer than cut ones."""
    images = tmp_path / "scenes" / "val" / "images"
    images.mkdir(parents=True)
    boxes = [[4 + 23 * x, 3 + 19 * y, 8, 8] for x in range(5) for y in range(4)]
    content = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 130, "height": 90} for number in (4, 9)],
        "annotations": [
            {"id": 10 * image + place, "image_id": image, "category_id": 2 + place % 2, "bbox": box, "iscrowd": 0}
            | {"area": box[2] * box[3]}
            for image in (4, 9)
            for place, box in enumerate(boxes)
        ],
        "categories": [{"id": 2, "name": "car"}, {"id": 3, "name": "bus"}],
    }
    for number in (4, 9):
        Image.fromarray(np.full((90, 130, 3), number, np.uint8)).save(images / f"{number}.png")
    (images.parent / "annotations.json").write_text(json.dumps(content))
    resizing = [] if resize is None else ["--resize", str(resize)]
    tiling = ["--tile", "64", "--stride", "40", *resizing]
    out = tmp_path / "out"
    assert main(["convert-data", str(tmp_path / "scenes"), str(out), "--format", "coco", *tiling]) == 0
    made = json.loads((out / "val" / "annotations.json").read_text())["annotations"]
    whole = max(annotation["area"] for annotation in made)
    results = [{**annotation, "score": annotation["area"] / whole} for annotation in made if not annotation["iscrowd"]]
    (tmp_path / "predictions.json").write_text(json.dumps(results))
    capsys.readouterr()
    truth = ["--ground-truth", str(tmp_path / "scenes"), "--windows", str(out / "val" / "windows.json")]
    assert main(["score", *truth, "--predictions", str(tmp_path / "predictions.json"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(results) > len(content["annotations"]), "some objects are in several windows"
    assert answer["metrics"]["AP"] == pytest.approx(1)
