"""What is written in a format reads back the same, as far as the format goes; what it cannot hold is said."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from dataset_cases import write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import DetectionDataset, Record, open_dataset
from smidgen.data.dataset import ANY_CLASS
from smidgen.data.finished_folder import finished_folder
from smidgen.data.writing import FORMATS, Written, write_dataset
from smidgen.structures import Classes

SIZE_HW = (48, 64)
CLASSES = Classes(("car", "tow truck", "boat"), (3, 7, 40))
# Largest distance of a border from where it was: those that know whole pixels only move it by half of one.
PRECISION_PX = dict.fromkeys(FORMATS, 1e-3) | {"visdrone": 0.501, "widerperson": 0.501}

Box = tuple[float, float, float, float]


def record_of(
    file: Path, boxes: Sequence[Box], labels: Sequence[int], regions: Sequence[tuple[Box, int]] = (), number: int = 1
) -> Record:
    return Record(
        file=file,
        image_id=number,
        size_hw=SIZE_HW,
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        ignore_xyxy=np.array([box for box, _ in regions], dtype=np.float32).reshape(-1, 4),
        ignore_labels=np.array([label for _, label in regions], dtype=np.int64),
    )


def dataset_of(records: Sequence[Record], split: str = "train", classes: Classes = CLASSES) -> DetectionDataset:
    return DetectionDataset(Path("set"), "made", split, classes, records)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pictures") / "images" / "a b.jpg"
    write_image(file, SIZE_HW[1], SIZE_HW[0])
    return file


def kinds(written: Written) -> set[str]:
    return {shortfall.kind for shortfall in written.shortfalls}


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """At least a pixel wide and high, with two decimals."""
    height, width = SIZE_HW
    x0, y0 = draw(st.integers(0, 100 * width - 100)), draw(st.integers(0, 100 * height - 100))
    x1, y1 = draw(st.integers(x0 + 100, 100 * width)), draw(st.integers(y0 + 100, 100 * height))
    return x0 / 100, y0 / 100, x1 / 100, y1 / 100


@settings(max_examples=60, deadline=None)
@given(
    format=st.sampled_from(sorted(FORMATS)),
    objects=st.lists(st.tuples(boxes(), st.integers(0, 2)), max_size=6),
    regions=st.lists(st.tuples(boxes(), st.integers(-1, 2)), max_size=4, unique_by=lambda region: region[0]),
)
def test_round_trip_keeps_boxes_names_and_ignore_flags(
    format: str,
    objects: list[tuple[Box, int]],
    regions: list[tuple[Box, int]],
    image: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    before = record_of(image, [box for box, _ in objects], [label for _, label in objects], regions)
    out = tmp_path_factory.mktemp("out")
    write_dataset(dataset_of([before]), out / format, format)
    read = open_dataset(out / format, "train", layout=format)
    assert len(read.notes) == 0
    (after,) = read.records
    assert after.file.name == image.name
    atol = PRECISION_PX[format]
    np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy, atol=atol)
    np.testing.assert_allclose(after.ignore_xyxy, before.ignore_xyxy, atol=atol)
    if format == "widerperson":  # one class, regions about it
        return
    names = ["car", "tow-truck" if format == "dota" else "tow truck", "boat"]
    about = [*names, "any"]
    assert [read.classes.names[label] for label in after.labels] == [names[label] for label in before.labels]
    assert [(*read.classes.names, "any")[label] for label in after.ignore_labels] == [about[one] for _, one in regions]
    if format in ("coco", "yolo"):
        assert read.classes == CLASSES


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Every image has other pixels and one box of its own."""
    names = [
        "cam1/a b.jpg",
        "cam2/a b.jpg",
        "cam1/a b.png",
        "cam1/Straße 日本.png",
        "x\ny.jpg",
        " lead.jpg",
        "images/z.jpg",
    ]
    names += ["two.dots.jpg", os.fsdecode(b"na\xefve.png"), "train 1.PNG"]
    folder = tmp_path_factory.mktemp("odd") / "images"
    records = []
    for number, name in enumerate(names):
        write_image(folder / name, SIZE_HW[1], SIZE_HW[0], seed=number)
        records.append(record_of(folder / name, [(number, 3, number + 5, 9)], [0], number=100 - number))
    (folder / "no suffix").write_bytes(records[2].file.read_bytes() + b"\0")
    records.append(record_of(folder / "no suffix", [(20, 20, 30, 30)], [0]))
    return dataset_of(records, classes=Classes(("pedestrian",), (1,)))


@pytest.mark.parametrize("format", FORMATS)
def test_every_image_keeps_its_boxes_whatever_its_name(
    format: str, odd_names: DetectionDataset, tmp_path: Path
) -> None:
    written = write_dataset([odd_names, dataset_of(odd_names.records[:2], "val", odd_names.classes)], tmp_path, format)
    read = open_dataset(tmp_path, "train", layout=format)
    assert len(read.notes) == 0
    found = {record.file.read_bytes(): record.boxes_xyxy.tolist() for record in read.records}
    assert found == {record.file.read_bytes(): record.boxes_xyxy.tolist() for record in odd_names.records}
    assert len(open_dataset(tmp_path, "val", layout=format)) == 2
    assert written.copied == 13
    assert ("renamed_images" in kinds(written)) == (format != "coco")


def test_coco_keeps_folders_and_ids(odd_names: DetectionDataset, tmp_path: Path) -> None:
    write_dataset(odd_names, tmp_path, "coco")
    read = open_dataset(tmp_path)
    ids = {record.file.relative_to(tmp_path / "train" / "images"): record.image_id for record in read.records}
    base = odd_names.records[4].file.parent
    assert ids == {record.file.relative_to(base): record.image_id for record in odd_names.records}


def test_coco_has_what_labeling_programs_ask_for(image: Path, tmp_path: Path) -> None:
    record = record_of(image, [(1, 2, 3, 5)], [1], [((5, 5, 9, 9), ANY_CLASS)])
    write_dataset(dataset_of([record]), tmp_path, "coco")
    content = json.loads((tmp_path / "train" / "annotations.json").read_text())
    assert list(content) == ["info", "licenses", "categories", "images", "annotations"]
    assert content["categories"][1] == {"id": 7, "name": "tow truck", "supercategory": ""}
    entry = {"image_id": 1, "category_id": 7, "bbox": [1, 2, 2, 3], "area": 6, "segmentation": []}
    assert content["annotations"][0] == {"id": 1, **entry, "iscrowd": 0, "ignore": 0}
    assert [one["iscrowd"] for one in content["annotations"][1:]] == [1, 1, 1], "a region about any class, per class"
    assert content["images"] == [{"id": 1, "file_name": "a b.jpg", "height": 48, "width": 64, "license": 0}]


def test_ids_that_are_words_become_numbers(image: Path, tmp_path: Path) -> None:
    record = record_of(image, [(1, 2, 3, 5)], [1], number="left")  # type: ignore[arg-type]
    assert kinds(write_dataset(dataset_of([record]), tmp_path, "coco")) == {"image_ids"}
    assert open_dataset(tmp_path).records[0].image_id == 1


def test_yolo_is_what_other_programs_read(image: Path, tmp_path: Path) -> None:
    record = record_of(image, [(16, 12, 48, 36)], [2], [((5, 5, 9, 9), ANY_CLASS)])
    written = write_dataset([dataset_of([record]), dataset_of([record], "val")], tmp_path, "yolo")
    described = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert described["names"] == {0: "car", 1: "tow truck", 2: "boat"}
    assert (described["train"], described["val"]) == ("images/train", "images/val")
    text = (tmp_path / "labels" / "train" / "a b.txt").read_text()
    assert [float(word) for word in text.split()] == [2, 0.5, 0.5, 0.5, 0.5]
    assert {"ignore_regions", "category_ids"} <= kinds(written)


def test_what_a_format_cannot_hold_is_said(image: Path, tmp_path: Path) -> None:
    record = record_of(image, [(1.25, 2, 3, 5)], [1])
    record = Record(image, 5, (64, 48), record.boxes_xyxy, record.labels, record.ignore_xyxy, np.array([2.0]))
    written = write_dataset(dataset_of([record]), tmp_path / "one", "visdrone")
    assert kinds(written) == {"rounded_boxes", "category_ids", "image_ids", "areas", "turned_images"}
    assert "1 boxes are rounded to whole pixels, which moves borders by 0.25 px" in str(written.shortfalls[0])
    assert {"classes", "rounded_boxes"} <= kinds(write_dataset(dataset_of([record]), tmp_path / "two", "widerperson"))
    assert "areas" not in kinds(write_dataset(dataset_of([record]), tmp_path / "three", "coco"))


def test_visdrone_names_take_visdrone_numbers(image: Path, tmp_path: Path) -> None:
    classes = Classes(("car", "bus"), (1, 2))
    write_dataset(dataset_of([record_of(image, [(1, 2, 3, 5)], [1])], classes=classes), tmp_path, "visdrone")
    file = tmp_path / "VisDrone2019-DET-train" / "annotations" / "a b.txt"
    assert file.read_text() == "1,2,2,3,1,9,0,0\n"
    assert not (tmp_path / "classes.txt").exists()


def test_classes_that_do_not_fit_are_refused(image: Path, tmp_path: Path) -> None:
    many = dataset_of([record_of(image, [], [])], classes=Classes.numbered(11))
    with pytest.raises(ValueError, match="10 categories, got 11"):
        write_dataset(many, tmp_path / "out", "visdrone")
    with pytest.raises(ValueError, match="one at a time"):
        write_dataset([many, dataset_of(many.records, "val")], tmp_path / "out", "yolo")
    with pytest.raises(ValueError, match="out of coco, yolo"):
        write_dataset(many, tmp_path / "out", "cocoa")
    assert list(tmp_path.iterdir()) == []


def test_equal_names_of_classes_stay_apart(image: Path, tmp_path: Path) -> None:
    classes = Classes(("car", "car"), (1, 2))
    written = write_dataset(dataset_of([record_of(image, [(1, 2, 3, 5)], [1])], classes=classes), tmp_path, "voc")
    assert open_dataset(tmp_path).classes.names == ("car", "car-2")
    assert "category_names" in kinds(written)


def test_images_can_be_linked(image: Path, tmp_path: Path) -> None:
    written = write_dataset(dataset_of([record_of(image, [], [])]), tmp_path, "voc", link=True)
    assert (written.copied, written.linked) == (0, 1)
    assert (tmp_path / "JPEGImages" / "a b.jpg").samefile(image)


def test_a_failure_leaves_nothing(image: Path, tmp_path: Path) -> None:
    gone = record_of(tmp_path / "gone.jpg", [], [])
    with pytest.raises(FileNotFoundError):
        write_dataset(dataset_of([record_of(image, [], []), gone]), tmp_path / "out", "yolo")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="expected a new or empty folder"), finished_folder(tmp_path):
        raise AssertionError("the block must not run")


def test_a_folder_may_be_the_current_one_or_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    monkeypatch.chdir(tmp_path / "here")
    for out in (Path(), tmp_path / "link"):
        with finished_folder(out) as folder:
            (folder / "done.txt").touch()
    assert [(tmp_path / name / "done.txt").is_file() for name in ("here", "there")] == [True, True]
    assert (tmp_path / "link").is_symlink()


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="choose another OUT"), finished_folder(tmp_path / "file" / "out"):
        raise AssertionError("the block must not run")
