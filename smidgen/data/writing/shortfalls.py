"""What a format cannot hold of a dataset, counted and in words, so that nothing is lost silently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.image_files import UnreadableImageError, read_size_hw
from smidgen.data.writing.image_names import NamedImage
from smidgen.structures import Classes


@dataclass(frozen=True, slots=True)
class Shortfall:
    """kind: a short word. count: of how many images, boxes or classes. text: what became of them."""

    kind: str
    count: int
    text: str

    def __str__(self) -> str:
        return f"{self.count} {self.text}"


def counted(*shortfalls: Shortfall) -> list[Shortfall]:
    """Those that concern anything."""
    return [shortfall for shortfall in shortfalls if shortfall.count]


def image_names(named: Iterable[NamedImage]) -> Shortfall:
    """Images whose name had to change."""
    changed = [image for image in named if image.is_renamed]
    example = f", e.g. {changed[0].found_as!r} is {changed[0].name!r}" if changed else ""
    return Shortfall("renamed_images", len(changed), f"images have another name{example}")


def image_ids(splits: Sequence[DetectionDataset]) -> Shortfall:
    """Of formats that know images by their names only."""
    return Shortfall("image_ids", sum(map(len, splits)), "images have no id in this format, only their names")


def category_ids(classes: Classes, written: Sequence[int]) -> Shortfall:
    """Classes whose id changes."""
    changes = [
        (name, old, ours) for name, old, ours in zip(classes.names, classes.ids, written, strict=True) if old != ours
    ]
    example = f", e.g. {changes[0][0]!r}: {changes[0][1]} is {changes[0][2]}" if changes else ""
    return Shortfall("category_ids", len(changes), f"classes have another id{example}")


def category_names(classes: Classes, written: Sequence[str]) -> Shortfall:
    """Classes whose name had to change."""
    changes = [(old, ours) for old, ours in zip(classes.names, written, strict=True) if old != ours]
    example = f", e.g. {changes[0][0]!r} is {changes[0][1]!r}" if changes else ""
    return Shortfall("category_names", len(changes), f"classes have another name{example}")


def stated_areas(splits: Sequence[DetectionDataset]) -> Shortfall:
    """Objects whose area is that of a mask: a format without areas takes width x height."""
    count = sum(_stated(record) for split in splits for record in split.records)
    return Shortfall("areas", count, "objects lose the area that the dataset states; it becomes width x height")


def _stated(record: Record) -> int:
    if record.areas is None:
        return 0
    sides = (record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]).astype(np.float64)
    return int((~np.isclose(record.areas, sides.prod(axis=1), rtol=1e-3, atol=1e-2)).sum())


def turned_images(named: Iterable[NamedImage]) -> Shortfall:
    """Images whose annotations are about another size than programs will see: EXIF turns them, or the size is wrong."""
    count = sum(_size_differs(image.record) for image in named)
    text = "images are not of the size their boxes are about (EXIF turn or wrong size): their boxes will be misplaced"
    return Shortfall("turned_images", count, text)


def _size_differs(record: Record) -> bool:
    try:
        return read_size_hw(record.file) != record.size_hw
    except UnreadableImageError:
        return False


def ignore_regions(splits: Sequence[DetectionDataset], text: str) -> Shortfall:
    """All ignore regions, with what becomes of them."""
    count = sum(len(record.ignore_xyxy) for split in splits for record in split.records)
    return Shortfall("ignore_regions", count, f"ignore regions {text}")
