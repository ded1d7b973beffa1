"""VisDrone-DET: VisDrone2019-DET-SPLIT/images/ and annotations/, whole pixels, at most ten categories.

The rows are described in `smidgen.data.visdrone`. Classes with VisDrone's names take VisDrone's numbers; others are
numbered from 1, and classes.txt beside the splits has their names, which `smidgen.data.visdrone_layout` reads. Ignore
regions about any class are category 0, those about one class are rows of it with score 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smidgen.data.dataset import ANY_CLASS, DetectionDataset, Record
from smidgen.data.text_lines import write_lines
from smidgen.data.visdrone import CATEGORIES, CATEGORY_NAMES, CLASSES, IGNORED_REGION
from smidgen.data.writing import shortfalls
from smidgen.data.writing.class_names import write_class_list, written_names
from smidgen.data.writing.contract import AddImage
from smidgen.data.writing.image_names import Naming, name_images
from smidgen.data.writing.shortfalls import Shortfall
from smidgen.data.writing.whole_pixels import moved_borders, whole_pixels
from smidgen.structures import Classes

MAKES = "VisDrone2019-DET-SPLIT/images/ and VisDrone2019-DET-SPLIT/annotations/"

_NAMING = Naming(folders=False, label_files=True)


def write(splits: Sequence[DetectionDataset], out: Path, add_image: AddImage) -> list[Shortfall]:
    """Errors: ValueError for more than ten classes, of which the toolkit would judge ten."""
    classes = splits[0].classes
    categories = _categories(classes)
    names = written_names(classes)
    named = name_images(splits, _NAMING)
    for split, images in zip(splits, named, strict=True):
        folder = out / f"VisDrone2019-DET-{split.split}"
        for image in images:
            add_image(image.record.file, folder / "images" / image.name)
            label_file = folder / "annotations" / f"{Path(image.name).stem}.txt"
            write_lines(label_file, _rows(image.record, categories))
    if not set(names) <= set(CATEGORY_NAMES):
        write_class_list(out, names)
    every_image = [image for images in named for image in images]
    return shortfalls.counted(
        moved_borders(every_image),
        shortfalls.category_ids(classes, categories),
        shortfalls.category_names(classes, names),
        shortfalls.image_ids(splits),
        shortfalls.image_names(every_image),
        shortfalls.stated_areas(splits),
        shortfalls.turned_images(every_image),
    )


def _categories(classes: Classes) -> list[int]:
    """The number of each class."""
    if set(classes.names) <= set(CATEGORY_NAMES):
        return [CLASSES.ids[CATEGORY_NAMES.index(name)] for name in classes.names]
    if len(classes) > len(CATEGORIES):
        raise ValueError(f"VisDrone has {len(CATEGORIES)} categories, got {len(classes)} classes; choose --format coco")
    return list(CATEGORIES[: len(classes)])


def _rows(record: Record, categories: Sequence[int]) -> list[str]:
    """x, y, width, height, score, category, truncation, occlusion; the last two are not known."""
    labels = np.concatenate([record.labels, record.region_labels])
    numbers = np.where(labels == ANY_CLASS, IGNORED_REGION, np.array([*categories, IGNORED_REGION])[labels])
    boxes = whole_pixels(np.concatenate([record.boxes_xyxy, record.ignore_xyxy]), record.size_hw)
    scores = np.arange(len(boxes)) < len(record.labels)
    unknown = np.zeros(len(boxes))
    rows = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], scores, numbers, unknown, unknown])
    return [",".join(map(str, row)) for row in rows.astype(np.int64).tolist()]
