"""WiderPerson: Images/, Annotations/NAME.jpg.txt and SPLIT.txt; one class, whole pixels.

The class is label 1 and every ignore region label 4; several classes become one, which is said. The name of a class
other than pedestrian stands in classes.txt, which other programs overlook. The last pixel belongs to a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.text_lines import write_lines
from smidgen.data.widerperson_layout import CLASSES, PEDESTRIAN
from smidgen.data.writing import shortfalls
from smidgen.data.writing.class_names import one_line, write_class_list
from smidgen.data.writing.contract import AddImage
from smidgen.data.writing.image_names import NamedImage, Naming, name_images
from smidgen.data.writing.shortfalls import Shortfall
from smidgen.data.writing.whole_pixels import moved_borders, whole_pixels
from smidgen.structures import Classes

MAKES = "Images/, Annotations/NAME.jpg.txt and SPLIT.txt"

_NAMING = Naming(folders=False, label_files=True, one_folder=True)
_IGNORE_REGION = 4


def write(splits: Sequence[DetectionDataset], out: Path, add_image: AddImage) -> list[Shortfall]:
    """All splits share the folders; lists say which image is in which."""
    classes = splits[0].classes
    named = name_images(splits, _NAMING)
    for split, images in zip(splits, named, strict=True):
        for image in images:
            add_image(image.record.file, out / "Images" / image.name)
            write_lines(out / "Annotations" / f"{image.name}.txt", _lines(image.record))
        write_lines(out / f"{split.split}.txt", (Path(image.name).stem for image in images))
    if len(classes) == 1 and classes.names != CLASSES.names:
        write_class_list(out, (one_line(classes.names[0]),))
    every_image = [image for images in named for image in images]
    return shortfalls.counted(
        _joined_classes(classes),
        moved_borders(every_image),
        _other_suffixes(every_image),
        shortfalls.image_ids(splits),
        shortfalls.image_names(every_image),
        shortfalls.stated_areas(splits),
        shortfalls.turned_images(every_image),
    )


def _joined_classes(classes: Classes) -> Shortfall:
    count = len(classes) if len(classes) > 1 else 0
    return Shortfall("classes", count, f"classes become the one class of the format: {', '.join(classes.names)}")


def _other_suffixes(named: Sequence[NamedImage]) -> Shortfall:
    count = sum(not image.name.endswith(".jpg") for image in named)
    return Shortfall("suffixes", count, "images are no .jpg, which programs for WiderPerson expect; smidgen reads them")


def _lines(record: Record) -> list[str]:
    """The number of boxes, then label, x1, y1, x2, y2."""
    boxes = whole_pixels(np.concatenate([record.boxes_xyxy, record.ignore_xyxy]), record.size_hw)
    labels = np.where(np.arange(len(boxes)) < len(record.labels), PEDESTRIAN, _IGNORE_REGION)
    rows = np.column_stack([labels, boxes[:, :2], boxes[:, 2:] - 1])
    return [str(len(rows)), *(" ".join(map(str, row)) for row in rows.tolist())]
