"""COCO: SPLIT/annotations.json beside SPLIT/images/, with every field that CVAT and Label Studio look for.

These fields are info, licenses, supercategories, integer ids, areas, iscrowd and (empty) segmentations; annotation ids
count from 1. Ignore regions are iscrowd = 1 and ignore = 1; one about any class stands there once per class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smidgen.data.dataset import DetectionDataset
from smidgen.data.image_files import shown
from smidgen.data.writing import shortfalls
from smidgen.data.writing.contract import AddImage
from smidgen.data.writing.image_names import NamedImage, Naming, name_images
from smidgen.data.writing.shortfalls import Shortfall

MAKES = "SPLIT/annotations.json and SPLIT/images/"

_NAMING = Naming(folders=True, label_files=False)
ANNOTATIONS = "annotations.json"


def write(splits: Sequence[DetectionDataset], out: Path, add_image: AddImage) -> list[Shortfall]:
    """Every split as it is; the ids of images change only where some are not numbers."""
    named = name_images(splits, _NAMING)
    for split, images in zip(splits, named, strict=True):
        for image in images:
            add_image(image.record.file, out / split.split / "images" / image.name)
        # ASCII with escapes: names that are not UTF-8 come back as they were.
        (out / split.split).mkdir(parents=True, exist_ok=True)
        (out / split.split / ANNOTATIONS).write_text(json.dumps(coco_content(split, images)), encoding="ascii")
    every_image = [image for images in named for image in images]
    return shortfalls.counted(shortfalls.image_names(every_image), _text_ids(splits))


def _text_ids(splits: Sequence[DetectionDataset]) -> Shortfall:
    count = sum(len(split) for split in splits if not _numbers_only(split))
    return Shortfall("image_ids", count, "images are numbered from 1, since some ids are no whole numbers")


def _numbers_only(split: DetectionDataset) -> bool:
    return all(isinstance(record.image_id, int) for record in split.records)


def coco_content(split: DetectionDataset, named: Sequence[NamedImage]) -> dict[str, Any]:
    """The content of a split's annotation file; file names are `named`'s, in the order of the records."""
    truth = split.coco_ground_truth()
    if _numbers_only(split):
        ids = {record.image_id: record.image_id for record in split.records}
    else:
        ids = {record.image_id: number for number, record in enumerate(split.records, start=1)}
    images = [
        image | {"id": ids[image["id"]], "file_name": entry.name, "license": 0}
        for image, entry in zip(truth["images"], named, strict=True)
    ]
    return {
        "info": {
            "description": f"{shown(split.path.name)} {split.split}",
            "version": "1.0",
            "contributor": "",
            "url": "",
            "date_created": "",
        },
        "licenses": [{"id": 0, "name": "", "url": ""}],
        "categories": [category | {"supercategory": ""} for category in truth["categories"]],
        "images": images,
        "annotations": [_annotation(annotation, ids) for annotation in truth["annotations"]],
    }


def _annotation(annotation: dict[str, Any], ids: Mapping[Any, int | str]) -> dict[str, Any]:
    added = {"image_id": ids[annotation["image_id"]], "segmentation": [], "ignore": annotation["iscrowd"]}
    return annotation | added
