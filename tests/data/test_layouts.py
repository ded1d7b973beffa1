"""Layouts are recognized, splits resolved, and equal content reads equal; what does not fit is explained."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_cases import IMAGES, coco_content, write_coco, write_image, write_yolo

from smidgen.data import open_dataset
from smidgen.data.layouts import LAYOUTS


def test_coco_splits_folder(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path))
    assert dataset.layout == "coco layout: found train/annotations.json"
    assert dataset.split == "train"
    assert dataset.classes.names == ("car", "boat")
    assert dataset.classes.ids == (3, 7)
    assert [len(record) for record in dataset.records] == [2, 1, 0]
    assert dataset.records[0].boxes_xyxy.tolist() == [[4, 6, 6, 8], [10, 10, 40, 30]]
    assert dataset.records[0].labels.tolist() == [0, 1]
    assert len(dataset.notes) == 0


def test_coco_and_yolo_read_the_same(tmp_path: Path) -> None:
    coco, yolo = open_dataset(write_coco(tmp_path / "coco")), open_dataset(write_yolo(tmp_path / "yolo"))
    assert yolo.layout.startswith("yolo layout: found data.yaml")
    assert coco.classes.names == yolo.classes.names
    for one, other in zip(coco.records, yolo.records, strict=True):
        assert one.file.name == other.file.name
        assert one.size_hw == other.size_hw
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-4)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/train.json", "images"),
        ("annotations/train.json", "train"),
        ("train/_annotations.coco.json", "train"),
        ("_annotations.coco.json", "."),
        ("labels.json", "images"),
    ],
)
def test_other_coco_folders(tmp_path: Path, annotations: str, images: str) -> None:
    for name, (width, height, _) in IMAGES.items():
        write_image(tmp_path / images / name, width, height)
    file = tmp_path / annotations
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(coco_content()))
    path = file if annotations == "labels.json" else tmp_path
    assert len(open_dataset(path)) == 3
    assert len(open_dataset(file, split="train")) == 3


@pytest.mark.parametrize("wanted", ["val", "valid", "validation", "VAL"])
@pytest.mark.parametrize("found", ["val", "valid"])
def test_split_aliases(tmp_path: Path, wanted: str, found: str) -> None:
    write_coco(tmp_path, split="train")
    write_coco(tmp_path, split=found)
    assert open_dataset(tmp_path, wanted).split == "val"


def test_unclear_and_unknown_splits_name_the_ones_found(tmp_path: Path) -> None:
    write_coco(tmp_path, split="train")
    write_coco(tmp_path, split="val")
    with pytest.raises(ValueError, match="train, val"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match=r"no split 'test'; found: train, val"):
        open_dataset(tmp_path, "test")


def test_nothing_fits_lists_layouts_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match="pictures/, readme") as caught:
        open_dataset(tmp_path)
    assert all(name in str(caught.value) for name in LAYOUTS)
    with pytest.raises(ValueError, match="no dataset at"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(ValueError, match="out of coco, yolo"):
        open_dataset(tmp_path, layout="coc")


def test_forced_layout(tmp_path: Path) -> None:
    write_yolo(write_coco(tmp_path))
    assert open_dataset(tmp_path, "train").layout.startswith("coco")
    assert open_dataset(tmp_path, "train", layout="yolo").layout.startswith("yolo")


def with_annotation(**fields: Any) -> dict[str, Any]:
    content = coco_content()
    annotation = {"id": 99, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5], "iscrowd": 0}
    content["annotations"].append(annotation | fields)
    return content


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"bbox": [1, 1, 0, 5]}, "degenerate_box"),
        ({"bbox": [1, 1, 5, -2]}, "inverted_box"),
        ({"bbox": [1, 1, 1e308, 1e308]}, "degenerate_box"),
        ({"bbox": [10**400, 1, 5, 5]}, "malformed_label"),
        ({"bbox": [1, 1, float("nan"), 5]}, "degenerate_box"),
        ({"bbox": [100, 1, 5, 5]}, "outside_box"),
        ({"bbox": [1, 1]}, "malformed_label"),
        ({"bbox": None}, "malformed_label"),
        ({"category_id": 8}, "unknown_category"),
        ({"image_id": 8}, "unknown_image"),
    ],
)
def test_bad_annotations_are_dropped_and_counted(tmp_path: Path, fields: dict[str, Any], kind: str) -> None:
    dataset = open_dataset(write_coco(tmp_path, with_annotation(**fields)))
    assert dataset.notes.counts == {kind: 1}
    assert len(dataset.notes.errors) == 1
    assert sum(len(record) for record in dataset.records) == 3
    assert "first: " in dataset.notes.lines()[0]


@pytest.mark.parametrize("width", [float("inf"), 10**400, 10**30, 0, None, "64"])
def test_a_width_that_is_none_is_read_from_the_file(tmp_path: Path, width: Any) -> None:
    content = coco_content()
    content["images"][0]["width"] = width
    assert open_dataset(write_coco(tmp_path, content)).records[0].size_hw == (48, 64)


def test_an_area_of_hundreds_of_digits_is_none(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path, with_annotation(area=10**400)))
    assert dataset.records[0].areas is not None and dataset.records[0].areas[-1] == 25


def test_categories_may_be_numbered_in_text(tmp_path: Path) -> None:
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["category_id"] = str(annotation["category_id"])
    assert len(open_dataset(write_coco(tmp_path, content)).notes) == 0


def test_an_image_with_a_name_too_long_for_any_file_is_missing(tmp_path: Path) -> None:
    content = coco_content()
    content["images"].append({"id": 77, "file_name": "x" * 400 + ".png", "height": 48, "width": 64})
    assert open_dataset(write_coco(tmp_path, content)).notes.counts == {"missing_image": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": 5}, "expected lists in annotations"),
        ({"categories": [{"id": float("inf"), "name": "car"}]}, "distinct integer id"),
    ],
)
def test_coco_files_that_are_none_say_what_is_wrong(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_dataset(write_coco(tmp_path, coco_content() | change))


def test_results_and_empty_files_are_no_annotations(tmp_path: Path) -> None:
    path = write_coco(tmp_path, coco_content())
    file = next(path.rglob("annotations.json"))
    for text, words in (("[]", "as files of results are"), ("", "zero bytes"), ("[" * 100_000, "not valid JSON")):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            open_dataset(path)


def test_class_names_in_windows_1252_are_legible(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_bytes("train: images/train\nnames: [café, boat]\n".encode("cp1252"))
    assert open_dataset(tmp_path, "train").classes.names == ("café", "boat")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_bytes("café\nboat\n".encode("cp1252"))
    assert open_dataset(tmp_path).classes.names == ("café", "boat")


def test_boxes_over_the_border_are_clipped_and_noted(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path, with_annotation(bbox=[-3, 40, 10, 10], area=100)))
    assert dataset.records[0].boxes_xyxy[2].tolist() == [0, 40, 7, 48]
    assert dataset.records[0].areas is not None
    assert dataset.records[0].areas[2] == 56
    assert [note.kind for note in dataset.notes.warnings] == ["clipped_box"]


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
def test_crowds_and_ignored_objects_become_regions(tmp_path: Path, flag: str) -> None:
    dataset = open_dataset(write_coco(tmp_path, with_annotation(**{flag: 1})))
    assert dataset.records[0].ignore_xyxy.tolist() == [[1, 1, 6, 6]]
    assert len(dataset.records[0]) == 2
    crowds = [entry for entry in dataset.coco_ground_truth()["annotations"] if entry["iscrowd"]]
    assert [(crowd["category_id"], crowd["bbox"]) for crowd in crowds] == [(3, [1, 1, 5, 5])]


def test_regions_without_a_class_stand_for_all_classes(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path, with_annotation(iscrowd=1, category_id=0)))
    crowds = [entry["category_id"] for entry in dataset.coco_ground_truth()["annotations"] if entry["iscrowd"]]
    assert crowds == [3, 7]


def test_ground_truth_has_original_ids_and_stated_areas(tmp_path: Path) -> None:
    truth = open_dataset(
        write_coco(tmp_path, with_annotation(area=17.5, bbox=[0.57, 1.1, 10.66, 19.54]))
    ).coco_ground_truth()
    assert {category["id"]: category["name"] for category in truth["categories"]} == {3: "car", 7: "boat"}
    assert [entry["category_id"] for entry in truth["annotations"]] == [3, 7, 3, 3]
    assert truth["annotations"][2]["bbox"] == [0.57, 1.1, 10.66, 19.54]
    assert truth["annotations"][2]["area"] == 17.5
    assert truth["annotations"][0]["area"] == 4
    assert min(entry["id"] for entry in truth["annotations"]) == 1
    assert [image["id"] for image in truth["images"]] == [1, 2, 3]


def test_missing_images_are_left_out_and_counted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "train" / "images" / "b.png").unlink()
    dataset = open_dataset(tmp_path)
    assert [record.file.name for record in dataset.records] == ["a.png", "c.png"]
    assert dataset.notes.counts == {"missing_image": 1}
    for name in ("a.png", "c.png"):
        (tmp_path / "train" / "images" / name).unlink()
    with pytest.raises(ValueError, match=r"none of the 3 images .* exists"):
        open_dataset(tmp_path)


def test_duplicate_images_are_counted(tmp_path: Path) -> None:
    content = coco_content()
    content["images"].append(content["images"][0])
    assert open_dataset(write_coco(tmp_path, content)).notes.counts == {"duplicate_image": 1}


def test_empty_datasets_and_broken_json_are_errors(tmp_path: Path) -> None:
    write_coco(tmp_path, {"images": [], "annotations": [], "categories": []})
    with pytest.raises(ValueError, match="no usable images"):
        open_dataset(tmp_path)
    file = tmp_path / "train" / "annotations.json"
    file.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        open_dataset(tmp_path)
    file.write_text("[]")
    with pytest.raises(ValueError, match="categories"):
        open_dataset(tmp_path)


def test_sizes_that_are_not_stated_are_read(tmp_path: Path) -> None:
    content = coco_content()
    for image in content["images"]:
        del image["width"], image["height"]
    assert [record.size_hw for record in open_dataset(write_coco(tmp_path, content)).records] == [
        (48, 64),
        (64, 48),
        (40, 80),
    ]


def test_latin1_names_in_json_open_their_files(tmp_path: Path) -> None:
    content = json.dumps(coco_content()).replace('"a.png"', '"na\udcefve.png"')
    write_coco(tmp_path)
    images = tmp_path / "train" / "images"
    (images / "a.png").rename(images / os.fsdecode(b"na\xefve.png"))
    (tmp_path / "train" / "annotations.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 3
    json.dumps(dataset.coco_ground_truth()).encode("utf-8")


def test_yolo_problems_are_counted(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    labels = tmp_path / "labels" / "train"
    (labels / "a.txt").write_text(
        "0 0.5 0.5 0.1 0.1\nhello\n5 0.5 0.5 0.1 0.1\n0 .5 .5 0 .1\n0 0.1 0.1 0.3 0.1 0.3 0.4\n"
    )
    (labels / "b.txt").unlink()
    (tmp_path / "images" / "train" / "c.png").write_bytes(b"")
    dataset = open_dataset(tmp_path)
    counts = dataset.notes.counts
    assert counts == {
        "malformed_label": 1,
        "unknown_category": 1,
        "degenerate_box": 1,
        "missing_labels": 1,
        "unreadable_image": 1,
    }
    np.testing.assert_allclose(dataset.records[0].boxes_xyxy[1], [6.4, 4.8, 19.2, 19.2], rtol=1e-5)


def test_yolo_folders_without_a_description(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    assert open_dataset(tmp_path).classes.names == ("0", "1")
    (tmp_path / "classes.txt").write_text("car\nboat\n")
    assert open_dataset(tmp_path).classes.names == ("car", "boat")


def test_yolo_exports_with_wrong_paths(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "images" / "train").rename(tmp_path / "images" / "other")
    (tmp_path / "labels" / "train").rename(tmp_path / "labels" / "other")
    text = "path: /elsewhere/set\ntrain: ../images/other\nval: gone\nnames: {0: car, 1: boat}\n"
    (tmp_path / "data.yaml").write_text(text)
    assert len(open_dataset(tmp_path, "train")) == 3
    assert len(open_dataset(tmp_path / "data.yaml", "train")) == 3
    with pytest.raises(ValueError, match="'gone', which does not exist"):
        open_dataset(tmp_path, "val")


def test_yolo_image_lists(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "train.txt").write_text("images/train/a.png\nimages/train/none.png\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [car, boat]\n")
    dataset = open_dataset(tmp_path)
    assert [record.file.name for record in dataset.records] == ["a.png"]
    assert dataset.notes.counts == {"missing_image": 1}


def test_subset_keeps_the_order(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path)).subset([2, 0])
    assert [record.image_id for record in dataset.records] == [3, 1]
