"""Pascal VOC: JPEGImages/, Annotations/NAME.xml and ImageSets/Main/SPLIT.txt.

Corners count from 1 and the last pixel belongs to the box, as in the challenge; a border that is not whole keeps its
decimals, which VOC2012 has in places, too. Ignore regions are objects marked difficult. classes.txt, which other
programs overlook, keeps the order of the classes and those that no box has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.image_files import shown
from smidgen.data.text_lines import write_lines
from smidgen.data.writing import shortfalls
from smidgen.data.writing.class_names import one_line, write_class_list, written_names
from smidgen.data.writing.contract import AddImage
from smidgen.data.writing.decimal_numbers import decimal_number
from smidgen.data.writing.ignored_objects import with_ignored
from smidgen.data.writing.image_names import NamedImage, Naming, name_images
from smidgen.data.writing.shortfalls import Shortfall

MAKES = "JPEGImages/, Annotations/*.xml and ImageSets/Main/SPLIT.txt"

_NAMING = Naming(folders=False, label_files=True, one_folder=True)
_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(splits: Sequence[DetectionDataset], out: Path, add_image: AddImage) -> list[Shortfall]:
    """All splits share the folders; lists say which image is in which."""
    classes = splits[0].classes
    names = written_names(classes, lambda name: _text(one_line(name)))
    named = name_images(splits, _NAMING)
    for split, images in zip(splits, named, strict=True):
        for image in images:
            add_image(image.record.file, out / "JPEGImages" / image.name)
            _write_annotation(out / "Annotations" / f"{Path(image.name).stem}.xml", image, names)
        write_lines(out / "ImageSets" / "Main" / f"{split.split}.txt", (Path(image.name).stem for image in images))
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


def _write_annotation(file: Path, image: NamedImage, names: Sequence[str]) -> None:
    root = Element("annotation")
    _leaves(root, {"folder": "JPEGImages", "filename": shown(image.name)})
    height, width = image.record.size_hw
    _leaves(SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _leaves(root, {"segmented": 0})
    _add_objects(root, image.record, names)
    ElementTree.indent(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(ElementTree.tostring(root, encoding="utf-8"))


def _add_objects(root: Element, record: Record, names: Sequence[str]) -> None:
    boxes, labels, ignored = with_ignored(record, len(names))
    for (x0, y0, x1, y1), label, difficult in zip(boxes.tolist(), labels, ignored, strict=True):
        element = SubElement(root, "object")
        _leaves(element, {"name": names[label], "pose": "Unspecified", "truncated": 0, "difficult": int(difficult)})
        corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
        _leaves(SubElement(element, "bndbox"), {side: decimal_number(value) for side, value in corners.items()})


def _leaves(parent: Element, texts: dict[str, object]) -> None:
    for tag, text in texts.items():
        SubElement(parent, tag).text = _text(str(text))


def _text(text: str) -> str:
    """Without signs that XML has no place for."""
    return _NOT_IN_XML.sub("_", text)
