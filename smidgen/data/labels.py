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
    """Drop boxes without area or outside the image, clip the rest to it, and put the ignored ones apart."""
    boxes = np.asarray(raw.boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    degenerate = ~_has_area(boxes)
    clipped = _clip(boxes, size_hw)
    outside = ~degenerate & ~_has_area(clipped)
    kept = ~degenerate & ~outside
    reach = np.abs(np.where(kept[:, None], boxes - clipped, 0.0)).max(axis=1, initial=0.0)
    record = _record(file, image_id, size_hw, clipped, raw, kept, trimmed=reach > 0)
    found = {"degenerate_box": degenerate, "outside_box": outside, "clipped_box": reach > _BORDER_TOLERANCE_PX}
    return record, [note for kind, which in found.items() for note in _notes(kind, file, boxes[which])]


def _record(
    file: Path,
    image_id: int | str,
    size_hw: tuple[int, int],
    boxes: npt.NDArray[np.float64],
    raw: RawLabels,
    kept: npt.NDArray[np.bool_],
    trimmed: npt.NDArray[np.bool_],
) -> Record:
    objects, regions = kept & ~raw.ignored, kept & raw.ignored
    own_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    stated = np.isfinite(raw.areas) & (raw.areas > 0) & ~trimmed
    areas = np.where(stated, raw.areas, own_areas)
    return Record(
        file=file,
        image_id=image_id,
        size_hw=size_hw,
        boxes_xyxy=boxes[objects].astype(np.float32),
        labels=raw.labels[objects].astype(np.int64),
        ignore_xyxy=boxes[regions].astype(np.float32),
        areas=areas[objects],
        ignore_labels=raw.labels[regions].astype(np.int64),
    )


def _has_area(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Finite, and wider and higher than nothing also in float32, in which records and targets are kept."""
    with np.errstate(over="ignore", invalid="ignore"):
        short = boxes.astype(np.float32)
        positive = (short[:, 2] > short[:, 0]) & (short[:, 3] > short[:, 1])
    return np.isfinite(short).all(axis=1) & positive


def _clip(boxes: npt.NDArray[np.float64], size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    height, width = size_hw
    return np.clip(boxes, 0.0, np.array([width, height, width, height], dtype=np.float64))


def _notes(kind: str, file: Path, boxes: npt.NDArray[np.float64]) -> list[Note]:
    return [Note(kind, shown(file), "x0 y0 x1 y1 = " + " ".join(f"{side:g}" for side in box)) for box in boxes]
