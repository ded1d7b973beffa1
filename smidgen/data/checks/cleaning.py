"""What of a dataset is kept, and how it is changed, so that no error is left; nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smidgen.data.checks.boxes import repeated_boxes
from smidgen.data.checks.categories import category_key
from smidgen.data.checks.duplicates import shared_content
from smidgen.data.checks.inspection import Inspection
from smidgen.data.checks.picture_facts import PictureFacts
from smidgen.data.checks.pictures import size_differs
from smidgen.data.dataset import ANY_CLASS, DetectionDataset, Record
from smidgen.data.image_files import shown
from smidgen.structures import Classes

_SAME_SHAPE = 0.01  # relative difference of aspect ratios
_THINNEST_PX = 0.01  # thinner boxes vanish when written with 4 decimals


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed: kind as of the finding, and what was done about it, in words."""

    split: str
    kind: str
    file: str
    done: str


@dataclass(frozen=True, slots=True)
class CleanSplit:
    """The images of a split that are kept, with what is known about their files, and one list of classes for all."""

    dataset: DetectionDataset
    pictures: tuple[PictureFacts, ...]


def clean_splits(inspection: Inspection) -> tuple[dict[str, CleanSplit], list[Change]]:
    """The splits without what cannot be used. Splits of which nothing is left are missing.

    Images that cannot be read, or whose boxes were made for a picture of another shape, are dropped; where only the
    scale differs, boxes are scaled. An image that several splits have stays in the last of them (val rather than train,
    so that the evaluation keeps its images). ValueError: the images were not read.
    """
    if inspection.pictures is None:
        raise ValueError("expected an inspection with images, got one without; leave out images=False (--no-images)")
    changes = [
        Change(split, note.kind, note.file, _DONE_BY_READER[note.kind])
        for split, dataset in inspection.dataset.splits.items()
        for note in dataset.notes.notes
        if note.kind in _DONE_BY_READER
    ]
    classes = _common_classes([dataset.classes for dataset in inspection.dataset.splits.values()])
    last = {content: _last_split(splits) for content, splits in shared_content(inspection.pictures).items()}
    cleaned = {}
    for split, dataset in inspection.dataset.splits.items():
        kept = list(_kept(split, dataset.records, inspection.pictures[split], last, changes))
        relabeled = _relabeling(dataset.classes, classes)
        records = tuple(_relabeled(_cleaned(split, record, changes), relabeled) for record, _ in kept)
        if dataset.classes != classes:
            changes.append(Change(split, "different_categories", shown(dataset.path), "categories merged by name"))
        if records:
            clean = replace(dataset, split=split, classes=classes, records=records)
            cleaned[split] = CleanSplit(clean, tuple(picture for _, picture in kept))
    return cleaned, changes


_DONE_BY_READER: dict[str, str] = {
    "missing_image": "annotations dropped",
    "unreadable_image": "dropped with its annotations",
    "duplicate_image": "only the first entry with the id kept",
    "inverted_box": "box dropped",
    "degenerate_box": "box dropped",
    "outside_box": "box dropped",
    "unknown_category": "box dropped",
    "unknown_image": "box dropped",
    "malformed_label": "annotation dropped",
    "clipped_box": "box clipped",
    "missing_labels": "kept as an image without objects",
}


def _last_split(splits: Sequence[str]) -> str:
    """Where an image stays: in the last split, but in train only if no other has it."""
    return next((split for split in reversed(splits) if split != "train"), "train")


def _kept(
    split: str,
    records: Sequence[Record],
    pictures: Sequence[PictureFacts],
    last: Mapping[bytes, str],
    changes: list[Change],
) -> Iterator[tuple[Record, PictureFacts]]:
    """Records with a usable image, each file once."""
    by_file: dict[Path, tuple[Record, PictureFacts]] = {}
    for record, picture in zip(records, pictures, strict=True):
        if record.file in by_file:
            by_file[record.file] = (_joined(by_file[record.file][0], record), picture)
            changes.append(Change(split, "listed_twice", shown(record.file), "entries joined"))
        else:
            by_file[record.file] = (record, picture)
    for record, picture in by_file.values():
        kind = _reason_to_drop(split, record, picture, last)
        if kind:
            changes.append(Change(split, kind, shown(record.file), "image dropped with its annotations"))
        elif size_differs(record, picture):
            changes.append(Change(split, "size_mismatch", shown(record.file), "boxes scaled to the size of the file"))
            yield _scaled(record, picture.upright_hw or record.size_hw), picture
        else:
            yield record, picture


def _reason_to_drop(split: str, record: Record, picture: PictureFacts, last: Mapping[bytes, str]) -> str:
    """The kind of finding, "" for an image that stays."""
    if not picture.usable or picture.fingerprint is None or picture.upright_hw is None:
        return next((finding.kind for finding in picture.findings if finding.severity == "error"), "unreadable_image")
    if last.get(picture.fingerprint.content, split) != split:
        return "image_in_two_splits"
    (height, width), (annotated_height, annotated_width) = picture.upright_hw, record.size_hw
    ratio = (height / width) / (annotated_height / annotated_width)
    return "size_mismatch" if size_differs(record, picture) and abs(ratio - 1) > _SAME_SHAPE else ""


def _joined(first: Record, second: Record) -> Record:
    """All boxes of two entries of one file."""
    return replace(
        first,
        boxes_xyxy=np.concatenate([first.boxes_xyxy, second.boxes_xyxy]),
        labels=np.concatenate([first.labels, second.labels]),
        ignore_xyxy=np.concatenate([first.ignore_xyxy, second.ignore_xyxy]),
        areas=None if first.areas is None or second.areas is None else np.concatenate([first.areas, second.areas]),
        ignore_labels=np.concatenate([first.region_labels, second.region_labels]),
    )


def _scaled(record: Record, size_hw: tuple[int, int]) -> Record:
    factor = np.array([size_hw[1] / record.size_hw[1], size_hw[0] / record.size_hw[0]] * 2)
    return replace(
        record,
        size_hw=size_hw,
        boxes_xyxy=(record.boxes_xyxy * factor).astype(np.float32),
        ignore_xyxy=(record.ignore_xyxy * factor).astype(np.float32),
        areas=None if record.areas is None else record.areas * factor[0] * factor[1],
    )


def _cleaned(split: str, record: Record, changes: list[Change]) -> Record:
    """Without boxes that repeat others or would have no area once written."""
    thin = ((record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]) < _THINNEST_PX).any(axis=1)
    repeated = repeated_boxes(record) & ~thin
    for kind, which in (("degenerate_box", thin), ("duplicate_box", repeated)):
        if which.any():
            changes.append(Change(split, kind, shown(record.file), f"{int(which.sum())} boxes dropped"))
    kept = ~(thin | repeated)
    areas = None if record.areas is None else record.areas[kept]
    return replace(record, boxes_xyxy=record.boxes_xyxy[kept], labels=record.labels[kept], areas=areas)


def _common_classes(all_classes: Sequence[Classes]) -> Classes:
    """Every name once; a category keeps its id unless an earlier one has it."""
    ids: dict[str, int] = {}
    names: dict[str, str] = {}
    for classes in all_classes:
        for name, identity in zip(classes.names, classes.ids, strict=True):
            if category_key(name) not in ids:
                free = identity not in ids.values()
                ids[category_key(name)] = identity if free else max(ids.values()) + 1
                names[category_key(name)] = name
    ordered = sorted(ids, key=lambda key: ids[key])
    return Classes(tuple(names[key] for key in ordered), tuple(ids[key] for key in ordered))


def _relabeling(classes: Classes, common: Classes) -> np.ndarray:
    """Index in the common list by index in a split's own; the last entry is ANY_CLASS, for the label -1."""
    keys = [category_key(name) for name in common.names]
    return np.array([*(keys.index(category_key(name)) for name in classes.names), ANY_CLASS], dtype=np.int64)


def _relabeled(record: Record, indices: np.ndarray) -> Record:
    return replace(record, labels=indices[record.labels], ignore_labels=indices[record.region_labels])
