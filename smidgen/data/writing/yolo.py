"""YOLO: images/SPLIT, labels/SPLIT and a data.yaml that names classes and splits.

Ultralytics' documentation describes the format. It has no ignore regions: they are written to ignored/SPLIT in the same
lines (class -1 = any), and the classes' ids to `category_ids` of data.yaml. `smidgen.data.yolo_layout` reads both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from smidgen.data.dataset import DetectionDataset
from smidgen.data.text_lines import write_lines
from smidgen.data.writing import shortfalls
from smidgen.data.writing.class_names import one_line
from smidgen.data.writing.contract import AddImage
from smidgen.data.writing.image_names import NamedImage, Naming, name_images
from smidgen.data.writing.shortfalls import Shortfall
from smidgen.data.yolo_layout import IGNORED, LABELS, label_file
from smidgen.structures import Classes

MAKES = "data.yaml, images/SPLIT and labels/SPLIT"

_NAMING = Naming(folders=True, label_files=True)
_APART = (
    f"stand in {IGNORED}/, which smidgen reads: the format has none, so that other programs overlook them and learn "
    "what lies there as background"
)


def write(splits: Sequence[DetectionDataset], out: Path, add_image: AddImage) -> list[Shortfall]:
    """Classes are numbered from 0 in their order."""
    classes = splits[0].classes
    named = name_images(splits, _NAMING)
    for split, images in zip(splits, named, strict=True):
        for image in images:
            # Below the folder itself: labels take the place of the last folder named images.
            relative = Path("images", split.split, image.name)
            add_image(image.record.file, out / relative)
            _write_labels(image, out, relative)
    description = {split.split: f"images/{split.split}" for split in splits}
    _write_description(out / "data.yaml", description, classes)
    every_image = [image for images in named for image in images]
    return shortfalls.counted(
        shortfalls.ignore_regions(splits, _APART),
        shortfalls.category_ids(classes, range(len(classes))),
        shortfalls.image_ids(splits),
        shortfalls.image_names(every_image),
        shortfalls.stated_areas(splits),
        shortfalls.turned_images(every_image),
    )


def _write_description(file: Path, splits: dict[str, str], classes: Classes) -> None:
    names = {index: one_line(name) for index, name in enumerate(classes.names)}
    content = {**splits, "names": names, "category_ids": list(classes.ids)}
    file.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _write_labels(image: NamedImage, out: Path, relative: Path) -> None:
    record = image.record
    write_lines(out / label_file(relative, LABELS), _lines(record.labels, record.boxes_xyxy, record.size_hw))
    if len(record.ignore_xyxy):
        write_lines(
            out / label_file(relative, IGNORED), _lines(record.region_labels, record.ignore_xyxy, record.size_hw)
        )


def _lines(labels: npt.NDArray[np.int64], boxes_xyxy: npt.NDArray[np.float32], size_hw: tuple[int, int]) -> list[str]:
    height, width = size_hw
    boxes = boxes_xyxy.astype(np.float64) / np.array([width, height, width, height])
    rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    # Eight decimals: a hundredth of a pixel in images of a million.
    return [
        f"{label} " + " ".join(f"{value:.8f}" for value in row)
        for label, row in zip(labels.tolist(), rows.tolist(), strict=True)
    ]
