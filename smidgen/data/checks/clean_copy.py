"""A mended copy of a dataset in COCO layout, with a log of every change; the original is only read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from smidgen.data.checks.cleaning import Change, CleanSplit, clean_splits
from smidgen.data.checks.inspection import Inspection
from smidgen.data.checks.picture_facts import PictureFacts
from smidgen.data.checks.pictures import annotated_as_stored
from smidgen.data.dataset import Record
from smidgen.data.finished_folder import finished_folder, require_free
from smidgen.data.image_files import EXIF_ORIENTATION, shown
from smidgen.data.writing import coco
from smidgen.data.writing.contract import AddImage
from smidgen.data.writing.image_copies import ImageCopies

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
    written beside `out` under a temporary name and renamed when complete. ValueError: `out` holds something already
    or lies in the dataset, images were not read, or nothing usable is left.
    """
    out = Path(out).expanduser()
    require_free(out, inspection.dataset.path)
    splits, changes = clean_splits(inspection)
    if not splits:
        reasons = "; ".join(dict.fromkeys(finding.observed or finding.kind for finding in inspection.errors[:3]))
        raise ValueError(f"{shown(inspection.dataset.path)} has no usable image, so nothing is copied ({reasons})")
    with finished_folder(out) as folder:
        coco.write([split.dataset for split in splits.values()], folder, _adding_upright(splits))
        changes += _turned(splits)
        # ASCII: names that are not UTF-8 survive as escapes.
        (folder / "fixes.json").write_text(json.dumps(_log(inspection, changes)), encoding="ascii")
    images = {name: len(split.dataset) for name, split in splits.items()}
    return CleanCopy(out, images, tuple(changes))


def _log(inspection: Inspection, changes: Sequence[Change]) -> dict[str, Any]:
    return {
        "source": shown(inspection.dataset.path),
        "counts": dict(Counter(change.kind for change in changes)),
        "changes": [asdict(change) for change in changes],
    }


def _adding_upright(splits: Mapping[str, CleanSplit]) -> AddImage:
    """Links or copies files, but turns those that EXIF would turn."""
    to_turn = {record.file: (record, picture) for _, record, picture in _with_orientation(splits)}
    copies = ImageCopies(total=sum(len(split.dataset) for split in splits.values()), link=True)

    def add_image(file: Path, place: Path) -> None:
        if file in to_turn:
            place.parent.mkdir(parents=True, exist_ok=True)
            _write_turned(*to_turn[file], place)
        else:
            copies(file, place)

    return add_image


def _turned(splits: Mapping[str, CleanSplit]) -> list[Change]:
    done = "pixels encoded as the boxes see them"
    return [Change(name, "exif_rotated", shown(record.file), done) for name, record, _ in _with_orientation(splits)]


def _with_orientation(splits: Mapping[str, CleanSplit]) -> Iterator[tuple[str, Record, PictureFacts]]:
    """Split, record and facts of the images that EXIF would turn."""
    for name, split in splits.items():
        for record, picture in zip(split.dataset.records, split.pictures, strict=True):
            if picture.orientation != 1:
                yield name, record, picture


def _write_turned(record: Record, picture: PictureFacts, target: Path) -> None:
    """Pixels in the frame of the boxes, without the tag."""
    with Image.open(record.file) as stored:
        turned = stored.copy() if annotated_as_stored(record, picture) else ImageOps.exif_transpose(stored)
        exif = stored.getexif()
        exif.pop(EXIF_ORIENTATION, None)
        form = "JPEG" if picture.form == "MPO" else picture.form
        options: dict[str, Any] = {"exif": exif} if form in _TAKE_EXIF else {}
        if form == "JPEG":
            options |= {"quality": _JPEG_QUALITY, "subsampling": 0}
        turned.save(target, format=form, **options)
