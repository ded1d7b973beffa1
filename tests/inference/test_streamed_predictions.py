from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bright_spot import write_spot
from PIL import Image

from smidgen.inference import picture_path, predictions_file, write_picture
from smidgen.structures import Detections

FOUND = Detections(
    boxes_xyxy=torch.tensor([[1.0, 2.0, 4.0, 8.0]]),
    scores=torch.tensor([0.75]),
    labels=torch.tensor([1]),
    image_hw=(10, 10),
    file="a.jpg",
    class_names=("car", "truck"),
    category_ids=(4, 9),
)


def test_the_document_has_the_agreed_keys(tmp_path: Path) -> None:
    with predictions_file(tmp_path / "predictions.json") as writer:
        writer.add(FOUND)
        writer.add_unreadable(Path("b.jpg"), "it is empty")
    document = json.loads((tmp_path / "predictions.json").read_text())
    detection = {"bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.75, "category_id": 9, "category": "truck"}
    assert document["images"] == [
        {"file": "a.jpg", "detections": [detection]},
        {"file": "b.jpg", "detections": [], "error": "it is empty"},
    ]
    assert document["counts"] == {"images": 1, "detections": 1, "unreadable": 1}


def test_an_interrupted_run_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), predictions_file(path) as writer:
        writer.add(FOUND)
        raise KeyboardInterrupt
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    with predictions_file(tmp_path / "predictions.json") as writer:
        writer.add(replace(FOUND, file=name))
    document = json.loads((tmp_path / "predictions.json").read_bytes())
    assert os.fsencode(document["images"][0]["file"]) == b"caf\xe9.jpg"


def test_an_empty_document_is_json(tmp_path: Path) -> None:
    with predictions_file(tmp_path / "new" / "predictions.json"):
        pass
    assert json.loads((tmp_path / "new" / "predictions.json").read_text())["images"] == []


def test_equal_base_names_get_different_places(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg", tmp_path / "b" / "1.png", tmp_path / "b" / "1.tif"]
    places = [picture_path(file, tmp_path, Path("out")) for file in files]
    assert len(set(places)) == 4
    assert places[0] == Path("out/a/1.jpg") and places[3] == Path("out/b/1.tif.png")


def test_a_picture_is_written_where_it_should_be(tmp_path: Path) -> None:
    file = write_spot(tmp_path / os.fsdecode(b"caf\xe9.png"))
    place = picture_path(file, tmp_path, tmp_path / "out")
    write_picture(replace(FOUND, file=str(file)), str(place))
    with Image.open(place) as picture:
        assert picture.size[0] == 640
