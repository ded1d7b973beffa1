"""Whatever a clean dataset looks like, a check finds no error in it, and its mended copy is the same dataset."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smidgen.data import open_dataset
from smidgen.data.checks import inspect_dataset, write_clean_copy

sides = st.integers(8, 40)
names = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@st.composite
def boxes(draw: st.DrawFn, width: int, height: int) -> list[float]:
    """x, y, width, height inside the image, in eighths of a pixel, which survive writing and reading exactly."""
    x, y = draw(st.integers(0, 8 * width - 1)), draw(st.integers(0, 8 * height - 1))
    w, h = draw(st.integers(1, 8 * width - x)), draw(st.integers(1, 8 * height - y))
    return [x / 8, y / 8, w / 8, h / 8]


@st.composite
def splits(draw: st.DrawFn) -> dict[str, Any]:
    """The content of a COCO file with 1 to 3 classes and images."""
    identities = draw(st.lists(st.integers(1, 90), min_size=1, max_size=3, unique=True))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        width, height = draw(sides), draw(sides)
        suffix = draw(st.sampled_from([".png", ".jpg", ".bmp"]))
        images.append({"id": number, "file_name": f"{number}{suffix}", "width": width, "height": height})
        for box in draw(st.lists(boxes(width, height), max_size=4)):
            category = draw(st.sampled_from(identities))
            crowd = draw(st.integers(0, 1))
            entry = {"image_id": number, "category_id": category, "bbox": box, "iscrowd": crowd}
            annotations.append({"id": len(annotations) + 1, **entry})
    categories = [{"id": identity, "name": f"class {identity}"} for identity in identities]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(root: Path, split: str, content: dict[str, Any], seed: int) -> None:
    (root / split / "images").mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for image in content["images"]:
        pixels = generator.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / split / "images" / image["file_name"])
    (root / split / "annotations.json").write_text(json.dumps(content))


@settings(max_examples=12, deadline=None)
@given(splits(), st.integers(0, 1000))
def test_clean_sets_have_no_errors_and_copy_as_they_are(content: dict[str, Any], seed: int) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        for number, split in enumerate(("train", "val")):
            write(root, split, content, 2 * seed + number)
        inspection = inspect_dataset(root, workers=1)
        assert inspection.errors == ()
        copy = write_clean_copy(inspection, Path(folder) / "copy")
        assert inspect_dataset(copy.folder, workers=1).errors == ()
        assert set(copy.counts) <= {"duplicate_box"}
        before, after = (open_dataset(path, "val").coco_ground_truth() for path in (root, copy.folder))
        assert before["categories"] == after["categories"] and before["images"] == after["images"]
        if not copy.changes:
            assert before["annotations"] == after["annotations"]


@settings(max_examples=8, deadline=None)
@given(st.lists(names, min_size=2, max_size=4, unique_by=str.casefold))
def test_names_of_any_kind_come_through(file_names: list[str]) -> None:
    """Classes and folders may be called anything; a copy keeps files of the same name in different folders apart."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        images, annotations = [], []
        for number, name in enumerate(file_names):
            file = root / "train" / "images" / f"f{name}" / "same.png"
            file.parent.mkdir(parents=True)
            Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file)
            images.append({"id": number, "file_name": f"f{name}/same.png", "width": 12, "height": 12})
            annotations.append({"id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 2, 3 + number, 4]})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": file_names[0]}]}
        (root / "train" / "annotations.json").write_text(json.dumps(content))
        inspection = inspect_dataset(root, workers=1)
        assert inspection.errors == ()
        copy = write_clean_copy(inspection, Path(folder) / "copy")
        assert [len(record) for record in open_dataset(copy.folder).records] == [1] * len(file_names)
