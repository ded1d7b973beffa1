"""From boxes as annotators leave them to a clean record: clipped, contiguous, and with every loss noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from smidgen.data.dataset import ANY_CLASS, Record
from smidgen.data.image_files import shown
from smidgen.data.notes import Note

# Rounding in normalized label files moves borders by less than this; it is clipped without a note.
_BORDER_TOLERANCE_PX = 1.0


@dataclass(frozen=True, slots=True)
class RawLabels:
    """Annotations of one image as read. boxes_xyxy: px of the upright image. labels: class indices. ignored: True for
    crowds and ignore areas. areas: px^2, NaN where the dataset states none."""

    boxes_xyxy: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]


class Label(NamedTuple):
    """One annotation of a label file. box_xyxy: px of the upright image; label: class index, ANY_CLASS only where
    ignored."""

    box_xyxy: tuple[float, float, float, float]
    label: int
    ignored: bool = False
    area: float = float("nan")


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One image with its annotations as read; size_hw: (height, width) in px of the upright image."""

    file: Path
    image_id: int | str
    size_hw: tuple[int, int]
    labels: RawLabels


def raw_labels(labels: Sequence[Label]) -> RawLabels:
    """The annotations of one image as arrays."""
    return RawLabels(
        np.array([label.box_xyxy for label in labels], dtype=np.float64).reshape(-1, 4),
        np.array([label.label for label in labels], dtype=np.int64),
        np.array([label.ignored for label in labels], dtype=np.bool_),
        np.array([label.area for label in labels], dtype=np.float64),
    )


def joined_regions(raw: RawLabels, num_classes: int) -> RawLabels:
    """An ignore region that stands there once for every class becomes one region about any class.

    Formats whose regions belong to one class can say "any" in no other way; see `coco_ground_truth`.
    """
    if not raw.ignored.any():
        return raw
    regions = np.flatnonzero(raw.ignored & (raw.labels != ANY_CLASS))
    if num_classes < 2 or len(regions) < num_classes:
        return raw
    _, first, place = np.unique(raw.boxes_xyxy[regions], axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    places_of_labels = np.unique(np.column_stack([place, raw.labels[regions]]), axis=0)[:, 0]
    is_full = np.bincount(places_of_labels, minlength=len(first)) == num_classes
    labels = raw.labels.copy()
    labels[regions[first[is_full]]] = ANY_CLASS
    repeated = is_full[place] & (np.arange(len(regions)) != first[place])
    kept = np.ones(len(labels), dtype=np.bool_)
    kept[regions[repeated]] = False
    return replace(
        raw,
        boxes_xyxy=raw.boxes_xyxy[kept],
        labels=labels[kept],
        ignored=raw.ignored[kept],
        areas=raw.areas[kept],
    )


def clean_record(
    file: Path, image_id: int | str, size_hw: tuple[int, int], raw: RawLabels
) -> tuple[Record, list[Note]]:
    """One image of `clean_records`."""
    records, notes = clean_records([RawRecord(file, image_id, size_hw, raw)])
    return records[0], notes


def clean_records(images: Sequence[RawRecord]) -> tuple[list[Record], list[Note]]:
    """Drop boxes without area or outside their image, clip the rest to it, and put the ignored ones apart.

    All images at once: of a hundred thousand, each operation on arrays of its own would take seconds.
    """
    raw = _concatenated([image.labels for image in images])
    counts = np.array([len(image.labels.labels) for image in images], dtype=np.int64)
    number = np.repeat(np.arange(len(images)), counts)
    limits_wh = np.array([image.size_hw[::-1] for image in images], dtype=np.float64).reshape(-1, 2)[number]
    clipped = np.clip(raw.boxes_xyxy, 0.0, np.tile(limits_wh, 2))
    faults = _faults(raw.boxes_xyxy, clipped)
    kept = ~(faults["inverted_box"] | faults["degenerate_box"] | faults["outside_box"])
    trimmed = kept & (raw.boxes_xyxy != clipped).any(axis=1)
    own_areas = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    stated = np.isfinite(raw.areas) & (raw.areas > 0) & ~trimmed
    clean = replace(raw, boxes_xyxy=clipped, areas=np.where(stated, raw.areas, own_areas))
    notes = [
        Note(kind, shown(images[number[place]].file), _in_words(raw.boxes_xyxy[place]))
        for kind, which in faults.items()
        for place in np.flatnonzero(which)
    ]
    return _records(images, number, clean, kept), notes


def _concatenated(labels: Sequence[RawLabels]) -> RawLabels:
    every = [raw_labels(()), *labels]
    return RawLabels(
        np.concatenate([raw.boxes_xyxy for raw in every]),
        np.concatenate([raw.labels for raw in every]),
        np.concatenate([raw.ignored for raw in every]),
        np.concatenate([raw.areas for raw in every]),
    )


def _faults(boxes: npt.NDArray[np.float64], clipped: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Kind of note -> which boxes have it, at most one kind for each."""
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    degenerate = ~inverted & ~_has_area(boxes)
    outside = ~inverted & ~degenerate & ~_has_area(clipped)
    with np.errstate(invalid="ignore"):  # infinite borders, which are degenerate
        reach = np.abs(boxes - clipped).max(axis=1, initial=0.0)
    far = ~inverted & ~degenerate & ~outside & (reach > _BORDER_TOLERANCE_PX)
    return {"inverted_box": inverted, "degenerate_box": degenerate, "outside_box": outside, "clipped_box": far}


def _records(
    images: Sequence[RawRecord], number: npt.NDArray[np.int64], clean: RawLabels, kept: npt.NDArray[np.bool_]
) -> list[Record]:
    """number: of each box's image."""
    boxes, labels = clean.boxes_xyxy.astype(np.float32), clean.labels
    objects, regions = kept & ~clean.ignored, kept & clean.ignored
    columns = [
        np.split(values[which], np.cumsum(np.bincount(number[which], minlength=len(images)))[:-1])
        for values, which in (
            (boxes, objects), (labels, objects), (clean.areas, objects), (boxes, regions), (labels, regions)
        )
    ]  # fmt: skip
    return [
        Record(image.file, image.image_id, image.size_hw, boxes_xyxy, classes, ignore_xyxy, areas, ignore_classes)
        for image, boxes_xyxy, classes, areas, ignore_xyxy, ignore_classes in zip(images, *columns, strict=False)
    ]


def _has_area(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Finite, and wider and higher than nothing also in float32, in which records and targets are kept."""
    with np.errstate(over="ignore", invalid="ignore"):
        short = boxes.astype(np.float32)
        positive = (short[:, 2] > short[:, 0]) & (short[:, 3] > short[:, 1])
    return np.isfinite(short).all(axis=1) & positive


def _in_words(box_xyxy: npt.NDArray[np.float64]) -> str:
    return "x0 y0 x1 y1 = " + " ".join(f"{side:g}" for side in box_xyxy)
