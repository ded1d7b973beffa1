"""A mended copy of a dataset in COCO layout, with a log of every change; the original is only read."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from smidgen.data.checks.cleaning import Change, CleanSplit, clean_splits
from smidgen.data.checks.inspection import Inspection
from smidgen.data.checks.picture_facts import PictureFacts
from smidgen.data.checks.pictures import annotated_as_stored
from smidgen.data.dataset import Record
from smidgen.data.image_files import shown

_EXIF_ORIENTATION = 0x0112
_JPEG_QUALITY = 95
_TAKE_EXIF = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True, slots=True)
class CleanCopy:
    """folder: where it was written. images: number by split. changes: what differs from the original."""

    folder: Path
    images: dict[str, int]
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of changes by kind."""
        return dict(Counter(change.kind for change in self.changes))


def write_clean_copy(inspection: Inspection, out: Path | str) -> CleanCopy:
    """Write OUT/SPLIT/annotations.json, OUT/SPLIT/images/ and OUT/fixes.json.

    Images are hard links where the disk allows, else copies; only those that EXIF would turn are encoded anew. Boxes,
    classes, areas and ignore regions are kept; outlines (segmentation) and further fields are not. Everything is
    written beside `out` under a temporary name and renamed when complete. ValueError: `out` holds something already,
    images were not read, or nothing usable is left.
    """
    out = Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"expected a new or empty folder for the clean copy, got {shown(out)}; choose another OUT")
    splits, changes = clean_splits(inspection)
    if not splits:
        raise ValueError(f"{shown(inspection.dataset.path)} has no usable image, so there is nothing to copy")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        for split, content in splits.items():
            changes += _write_split(unfinished / split, split, content)
        _write_json(unfinished / "fixes.json", _log(inspection, changes))
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    images = {split: len(content.dataset) for split, content in splits.items()}
    return CleanCopy(out, images, tuple(changes))


def _log(inspection: Inspection, changes: Sequence[Change]) -> dict[str, Any]:
    return {
        "source": shown(inspection.dataset.path),
        "counts": dict(Counter(change.kind for change in changes)),
        "changes": [asdict(change) for change in changes],
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    # ASCII: names that are not UTF-8 survive as escapes.
    file.write_text(json.dumps(content), encoding="ascii")


def _write_split(folder: Path, split: str, content: CleanSplit) -> list[Change]:
    records = content.dataset.records
    names = _names([record.file for record in records])
    changes = []
    for record, picture, name in zip(records, content.pictures, names, strict=True):
        target = folder / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if picture.orientation == 1:
            _link_or_copy(record.file, target)
        else:
            _write_turned(record, picture, target)
            changes.append(Change(split, "exif_rotated", shown(record.file), "pixels encoded as the boxes see them"))
    truth = content.dataset.coco_ground_truth()
    for entry, name in zip(truth["images"], names, strict=True):
        entry["file_name"] = name.as_posix()
    _write_json(folder / "annotations.json", truth)
    return changes


def _names(files: Sequence[Path]) -> list[Path]:
    """File names in the copy: below the folder that all have in common, so that equal names stay apart."""
    common = Path(os.path.commonpath([file.parent.resolve() for file in files]))
    return [file.parent.resolve().relative_to(common) / file.name for file in files]


def _link_or_copy(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file.resolve())
    except OSError:  # another disk, or one that knows no links
        shutil.copy2(file, target)


def _write_turned(record: Record, picture: PictureFacts, target: Path) -> None:
    """Pixels in the frame of the boxes, without the tag."""
    with Image.open(record.file) as stored:
        turned = stored.copy() if annotated_as_stored(record, picture) else ImageOps.exif_transpose(stored)
        exif = stored.getexif()
        exif.pop(_EXIF_ORIENTATION, None)
        form = "JPEG" if picture.form == "MPO" else picture.form
        options: dict[str, Any] = {"exif": exif} if form in _TAKE_EXIF else {}
        if form == "JPEG":
            options |= {"quality": _JPEG_QUALITY, "subsampling": 0}
        turned.save(target, format=form, **options)
