"""Pascal VOC, VisDrone, DOTA and WiderPerson are recognized and understood; broken label files never stop a reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_cases import coco_content, write_coco, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import DetectionDataset, open_dataset
from smidgen.data.dataset import ANY_CLASS
from smidgen.data.layouts import split_names


def put(file: Path, text: str | bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def voc_object(name: str, corners: str, difficult: int | str = 0) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners.split(), strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


def write_voc(root: Path, *objects: str, stem: str = "a", split: str = "train") -> Path:
    write_image(root / "JPEGImages" / f"{stem}.jpg", 64, 48)
    put(root / "Annotations" / f"{stem}.xml", f"<annotation>{''.join(objects)}</annotation>")
    put(root / "ImageSets" / "Main" / f"{split}.txt", f"{stem}\n")
    return root


def write_visdrone(root: Path, text: str | bytes, split: str = "train", stem: str = "a") -> Path:
    folder = root / f"VisDrone2019-DET-{split}"
    write_image(folder / "images" / f"{stem}.jpg", 64, 48)
    put(folder / "annotations" / f"{stem}.txt", text)
    return root


def write_dota(root: Path, text: str | bytes, split: str = "train") -> Path:
    write_image(root / split / "images" / "P1.png", 64, 48)
    put(root / split / "labelTxt" / "P1.txt", text)
    return root


def write_widerperson(root: Path, text: str | bytes) -> Path:
    write_image(root / "Images" / "1.jpg", 64, 48)
    put(root / "Annotations" / "1.jpg.txt", text)
    put(root / "train.txt", "1\r\n")
    return root


def only(dataset: DetectionDataset) -> tuple[list[list[float]], list[int], list[list[float]], list[int]]:
    """Boxes, class indices, regions and what they are about, of the one image."""
    (record,) = dataset.records
    assert record.ignore_labels is not None
    regions = record.ignore_xyxy.tolist(), record.ignore_labels.tolist()
    return record.boxes_xyxy.tolist(), record.labels.tolist(), *regions


def test_voc_corners_count_from_one_and_difficult_objects_are_ignored(tmp_path: Path) -> None:
    write_voc(tmp_path, voc_object("cat", "1 1 64 48"), voc_object("dog", "11 12.5 20 30", 1))
    dataset = open_dataset(tmp_path, "train")
    assert dataset.layout.startswith("voc layout: found .xml files in Annotations; 20 classes; corners count from 1")
    assert dataset.classes.names[7] == "cat"
    assert dataset.classes.ids[7] == 8
    assert only(dataset) == ([[0, 0, 64, 48]], [7], [[10, 11.5, 20, 30]], [11])


def test_voc_corners_count_from_zero_where_one_is_below_one(tmp_path: Path) -> None:
    write_voc(tmp_path, voc_object("rust", "5 5 9 9"))
    write_voc(tmp_path, voc_object("crack", "0 3 9 9"), stem="b", split="val")
    dataset = open_dataset(tmp_path, "train")
    assert "corners count from 0" in dataset.layout
    assert dataset.classes.names == ("crack", "rust"), "all splits decide about the classes"
    assert only(dataset)[0] == [[5, 5, 9, 9]]


def test_voc_years_are_joined_and_lists_about_one_class_stand_back(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        root = write_voc(tmp_path / "VOCdevkit" / year, voc_object("cat", "1 1 9 9"), stem=year)
        put(root / "ImageSets" / "Main" / "cat_train.txt", f"{year} 1\n")
        put(root / "ImageSets" / "Main" / "trainval.txt", f"{year}\n")
    assert sorted(split_names(tmp_path)) == ["train", "trainval"]
    assert [record.file.stem for record in open_dataset(tmp_path, "train").records] == ["VOC2007", "VOC2012"]


def test_voc_files_beside_their_images(tmp_path: Path) -> None:
    write_image(tmp_path / "valid" / "a.b.png", 64, 48)
    put(tmp_path / "valid" / "a.b.xml", f"<annotation>{voc_object('cat', '3 3 9 9')}</annotation>")
    dataset = open_dataset(tmp_path)
    assert (dataset.split, only(dataset)[0]) == ("val", [[2, 2, 9, 9]])


def test_a_region_for_every_class_is_about_any(tmp_path: Path) -> None:
    put(tmp_path / "classes.txt", "cat\ndog\n")
    everyone = [voc_object(name, "3 3 9 9", 1) for name in ("cat", "dog")]
    write_voc(tmp_path, voc_object("cat", "3 3 9 9"), *everyone, voc_object("dog", "3 4 9 9", 1))
    assert only(open_dataset(tmp_path)) == ([[2, 2, 9, 9]], [0], [[2, 2, 9, 9], [2, 3, 9, 9]], [ANY_CLASS, 1])


def test_visdrone_rows(tmp_path: Path) -> None:
    rows = "1,2,10,20,1,4,0,0\n3,4,5,6,0,0,0,0\n7,8,9,10,0,1,0,0\n1,1,5,5,1,11,0,0\n1,1,5,5,0,11,0,0,\n"
    write_visdrone(tmp_path, rows)
    write_visdrone(tmp_path, "", "test-dev")
    dataset = open_dataset(tmp_path, "train")
    assert "visdrone layout: found VisDrone2019-DET-test-dev with images" in dataset.layout
    assert split_names(tmp_path) == ["test-dev", "train"]
    assert (dataset.classes.names[3], dataset.classes.ids[3]) == ("car", 4)
    assert only(dataset) == ([[1, 2, 11, 22]], [3], [[3, 4, 8, 10], [7, 8, 16, 18]], [ANY_CLASS, 0])
    assert len(dataset.notes) == 0
    assert only(open_dataset(tmp_path / "VisDrone2019-DET-train"))[1] == [3]


def test_dota_lines(tmp_path: Path) -> None:
    header = "imagesource:GoogleEarth\ngsd:0.14\n"
    write_dota(tmp_path, header + "10 5 20 8 18 15 8.5 12 ship 0\n1 1 9 1 9 9 1 9 plane 1\n2 2 4 2 4 4 2 4 ship\n")
    dataset = open_dataset(tmp_path)
    assert dataset.layout.startswith("dota layout: found images with train/labelTxt; 15 classes; rotated boxes")
    assert only(dataset) == ([[8.5, 5, 20, 15], [2, 2, 4, 4]], [6, 6], [[1, 1, 9, 9]], [0])


def test_dota_archives_with_a_version_and_one_more_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "val" / "images" / "part1" / "P1.png", 64, 48)
    put(tmp_path / "val" / "labelTxt-v1.5" / "DOTA-v1.5_val" / "P1.txt", "1 1 9 1 9 9 1 9 container-crane 0\n")
    dataset = open_dataset(tmp_path)
    assert (len(dataset.classes), only(dataset)[0]) == (16, [[1, 1, 9, 9]])


def test_widerperson_labels(tmp_path: Path) -> None:
    write_widerperson(tmp_path, "4\n1 0 0 9 19\n2 1 1 5 5\n5 20 20 30 30\n7 1 1 2 2\n")
    dataset = open_dataset(tmp_path)
    assert dataset.layout.startswith("widerperson layout: found Annotations/*.txt with train.txt")
    assert only(dataset)[:3] == ([[0, 0, 10, 20]], [0], [[1, 1, 6, 6], [20, 20, 31, 31]])
    assert dataset.notes.counts == {"unknown_category": 1}


def test_widerperson_says_where_boxes_are_missing(tmp_path: Path) -> None:
    write_widerperson(tmp_path, "3\n1 0 0 9 19\n")
    assert "says 3 boxes and has 1" in open_dataset(tmp_path).notes.lines()[0]


def test_soda_d_keeps_its_ignore_category_apart(tmp_path: Path) -> None:
    content = coco_content()
    content["categories"] = [*content["categories"], {"id": 10, "name": "ignore"}]
    content["annotations"].append({"id": 99, "image_id": 1, "category_id": 10, "bbox": [1, 1, 5, 5]})
    write_coco(tmp_path, content)
    (tmp_path / "train" / "images").rename(tmp_path / "Images")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "train" / "annotations.json").rename(tmp_path / "Annotations" / "train.json")
    dataset = open_dataset(tmp_path)
    assert dataset.layout.endswith("boxes of the category 'ignore' are read as ignore regions")
    assert dataset.classes.names == ("car", "boat")
    assert dataset.records[0].ignore_xyxy.tolist() == [[1, 1, 6, 6]]
    assert dataset.records[0].ignore_labels.tolist() == [ANY_CLASS]


@pytest.mark.parametrize("images", ["images/trainval", "trainval/images", "trainval", "images/trainval/images"])
def test_ai_tod_splits(tmp_path: Path, images: str) -> None:
    write_coco(tmp_path, split="made")
    (tmp_path / images).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "made" / "images").rename(tmp_path / images)
    (tmp_path / "made" / "annotations.json").unlink()
    for split in ("train", "trainval"):
        put(tmp_path / "annotations" / f"aitodv2_{split}.json", json.dumps(coco_content()))
    assert split_names(tmp_path) == ["train", "trainval"]
    dataset = open_dataset(tmp_path, "trainval")
    assert "(AI-TOD)" in dataset.layout
    assert len(dataset) == len(open_dataset(tmp_path, "train")) == 3


BROKEN = [
    b"",
    b"\xff\xfe1\x00",
    b"\xff\xff\xff",
    b"1,2,3\n",
    b"nan,nan,nan,nan,nan,nan\n",
    b"1 2 3 4\n" * 3,
    b"1e999 1 1e999 1 1 1 1 1 ship 0\n",
    b"9" * 5000,
    b"1 " * 8 + b"\n",
    b"<annotation><object><name>cat</name></object></annotation>",
    b"<annotation><object><name></name><bndbox/></object></annotation>",
    b"<?xml version='1.0' encoding='klingon'?><a/>",
    voc_object("cat", "1 1 nan 9").encode(),
    b"<annotation>",
    b'{"images": 3}',
]
WRITERS = {
    "visdrone": lambda root, broken: write_visdrone(write_visdrone(root, broken), "1,1,5,5,1,4,0,0\n", stem="b"),
    "dota": lambda root, broken: write_dota(write_dota(root, broken), "1 1 9 1 9 9 1 9 ship 0\n", "val"),
    "widerperson": write_widerperson,
}


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("broken", BROKEN)
def test_broken_files_are_noted(tmp_path: Path, layout: str, broken: bytes) -> None:
    dataset = open_dataset(WRITERS[layout](tmp_path, broken), "train", layout=layout)
    assert len(dataset.records[0]) == 0
    assert len(dataset.notes.errors) >= 1 or broken == b""


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_xml_is_noted(tmp_path: Path, broken: bytes) -> None:
    root = write_voc(write_voc(tmp_path), voc_object("cat", "2 2 9 9"), stem="b")
    put(root / "ImageSets" / "Main" / "train.txt", "a\nb\ngone\n")
    put(root / "Annotations" / "a.xml", broken)
    dataset = open_dataset(root)
    assert [len(record) for record in dataset.records] == [0, 1]
    assert dataset.notes.counts == {"malformed_label": 1, "missing_image": 1}


@pytest.fixture(scope="module")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"))


@settings(max_examples=50, deadline=None)
@given(
    annotation=st.recursive(
        st.none() | st.integers(-3, 70) | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=4,
    ),
    field=st.sampled_from(["bbox", "category_id", "image_id", "iscrowd", "area", None]),
)
def test_any_annotation_of_a_coco_file_is_survived(annotation: object, field: str | None, coco_folder: Path) -> None:
    content = coco_content()
    entry = {"id": 99, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}
    content["annotations"].append(annotation if field is None else entry | {field: annotation})
    put(coco_folder / "train" / "annotations.json", json.dumps(content))
    assert len(open_dataset(coco_folder)) == 3


def test_images_that_are_not_there_or_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    write_widerperson(tmp_path, "0\n")
    put(tmp_path / "Images" / "2.jpg", b"no picture")
    put(tmp_path / "train.txt", "1\n2\n3\n")
    dataset = open_dataset(tmp_path)
    assert dataset.notes.counts == {"unreadable_image": 1, "missing_image": 1}
    assert len(dataset) == 1
