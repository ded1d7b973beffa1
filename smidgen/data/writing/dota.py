"""DOTA: SPLIT/images/ and SPLIT/labelTxt/ with the four corners of each box, its class and whether it is difficult.

The boxes are horizontal, as they are in the dataset read; corners go clockwise from the top left. Ignore regions are
objects marked difficult. classes.txt, which other programs overlook, keeps the order of the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.text_lines import write_lines
from smidgen.data.writing import shortfalls
from smidgen.data.writing.class_names import one_line, write_class_list, written_names
from smidgen.data.writing.contract import AddImage
from smidgen.data.writing.decimal_numbers import decimal_number
from smidgen.data.writing.ignored_objects import with_ignored
from smidgen.data.writing.image_names import Naming, name_images
from smidgen.data.writing.shortfalls import Shortfall

MAKES = "SPLIT/images/ and SPLIT/labelTxt/"

_NAMING = Naming(folders=False, label_files=True)
_CLOCKWISE = (0, 1, 2, 1, 2, 3, 0, 3)


def write(splits: Sequence[DetectionDataset], out: Path, add_image: AddImage) -> list[Shortfall]:
    """Class names become one word each: programs split a line at its blanks."""
    classes = splits[0].classes
    names = written_names(classes, _one_word)
    named = name_images(splits, _NAMING)
    for split, images in zip(splits, named, strict=True):
        for image in images:
            add_image(image.record.file, out / split.split / "images" / image.name)
            label_file = out / split.split / "labelTxt" / f"{Path(image.name).stem}.txt"
            write_lines(label_file, _lines(image.record, names))
    write_class_list(out, names)
    every_image = [image for images in named for image in images]
    return shortfalls.counted(
        shortfalls.category_names(classes, names),
        shortfalls.category_ids(classes, range(1, len(classes) + 1)),
        shortfalls.image_ids(splits),
        shortfalls.image_names(every_image),
        shortfalls.stated_areas(splits),
        shortfalls.turned_images(every_image),
    )


def _one_word(name: str) -> str:
    return one_line(name).replace(" ", "-").replace(",", "-")


def _lines(record: Record, names: Sequence[str]) -> list[str]:
    boxes, labels, ignored = with_ignored(record, len(names))
    return [
        " ".join(decimal_number(box[side]) for side in _CLOCKWISE) + f" {names[label]} {int(difficult)}"
        for box, label, difficult in zip(boxes.tolist(), labels, ignored, strict=True)
    ]
