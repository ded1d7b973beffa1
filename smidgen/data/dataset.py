"""A labeled set of images in memory: where each file is and what is on it, in pixels of the image on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smidgen.data.image_files import shown
from smidgen.data.notes import DatasetNotes
from smidgen.structures import Classes, ObjectSizes

ANY_CLASS = -1


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its objects; boxes are xyxy pixels of the upright image on disk, inside it, with positive area.

    size_hw: (height, width) on disk. boxes_xyxy: M x 4. labels: M contiguous class indices. ignore_xyxy: R x 4 regions
    (crowds, ignore areas). areas: M areas in px^2 as the dataset states them (None = width * height). ignore_labels: R
    class indices that a region is about, ANY_CLASS for all (None = all of them ANY_CLASS).
    """

    file: Path
    image_id: int | str
    size_hw: tuple[int, int]
    boxes_xyxy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ignore_xyxy: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float64] | None = None
    ignore_labels: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def region_labels(self) -> npt.NDArray[np.int64]:
        """What each of the R regions is about: a class index, or ANY_CLASS."""
        if self.ignore_labels is None:
            return np.full(len(self.ignore_xyxy), ANY_CLASS, dtype=np.int64)
        return self.ignore_labels


@dataclass(frozen=True, slots=True)
class DetectionDataset:
    """The images of one split.

    layout: what was recognized and why, to be printed. notes: what was mended or left out while reading.
    """

    path: Path
    layout: str
    split: str
    classes: Classes
    records: Sequence[Record]
    notes: DatasetNotes = field(default_factory=DatasetNotes)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def object_sizes(self) -> ObjectSizes | None:
        """Of all objects, without ignore regions; None where there are none."""
        boxes = [np.zeros((0, 4), np.float32), *(record.boxes_xyxy for record in self.records)]
        corners = np.concatenate(boxes)
        return ObjectSizes.of((corners[:, 2:] - corners[:, :2]).max(axis=1))

    def subset(self, indices: Sequence[int]) -> DetectionDataset:
        """The same dataset with only these images, in this order."""
        return replace(self, records=tuple(self.records[index] for index in indices))

    def coco_ground_truth(self) -> dict[str, Any]:
        """The records as a COCO dict with the dataset's own category ids; ignore regions are iscrowd=1.

        A region about any class stands there once per class, since COCO regions belong to one.
        """
        annotations = [entry for record in self.records for entry in _coco_annotations(record, self.classes)]
        return {
            "info": {"description": f"{shown(self.path)} {self.split}"},
            "images": [_coco_image(record) for record in self.records],
            # COCO's own evaluation takes annotation id 0 for "no match": count from 1.
            "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
            "categories": [
                {"id": identity, "name": name}
                for identity, name in zip(self.classes.ids, self.classes.names, strict=True)
            ],
        }


def _coco_image(record: Record) -> dict[str, Any]:
    height, width = record.size_hw
    return {"id": record.image_id, "file_name": shown(record.file.name), "height": height, "width": width}


def _coco_annotations(record: Record, classes: Classes) -> list[dict[str, Any]]:
    areas = _box_areas(record.boxes_xyxy) if record.areas is None else record.areas
    objects = [
        _coco_annotation(record, classes.ids[label], box, float(area), crowd=0)
        for box, label, area in zip(record.boxes_xyxy, record.labels, areas, strict=True)
    ]
    regions = [
        _coco_annotation(record, category, box, float(area), crowd=1)
        for box, label, area in zip(
            record.ignore_xyxy, record.region_labels, _box_areas(record.ignore_xyxy), strict=True
        )
        for category in (classes.ids if label == ANY_CLASS else (classes.ids[label],))
    ]
    return objects + regions


def _coco_annotation(
    record: Record, category: int, box_xyxy: npt.NDArray[np.float32], area: float, crowd: int
) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(value) for value in box_xyxy)
    # 4 decimals: what float32 adds beyond them is no information (80.57 is stored as 80.5699997).
    bbox = [round(value, 4) for value in (x0, y0, x1 - x0, y1 - y0)]
    return {"image_id": record.image_id, "category_id": category, "bbox": bbox, "area": area, "iscrowd": crowd}


def _box_areas(boxes_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    boxes = boxes_xyxy.astype(np.float64)
    areas: npt.NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
