"""VisDrone-DET into our COCO layout, its training images cut into four (the rule stands in `smidgen.data.visdrone`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from smidgen.data.dataset import ANY_CLASS, DetectionDataset, Record
from smidgen.data.finished_folder import finished_folder, require_free
from smidgen.data.geometry import Window
from smidgen.data.image_files import IMAGE_SUFFIXES, UnreadableImageError, read_image, shown
from smidgen.data.labels import RawLabels, clean_record
from smidgen.data.notes import DatasetNotes, Note
from smidgen.data.visdrone import (
    CLASSES,
    Rows,
    class_indices,
    ignored_regions,
    judged,
    patches,
    read_rows,
    split_objects,
)

Progress = Callable[[int, int], None]

_JPEG_QUALITY = 95
_PATCHES = 4


@dataclass(frozen=True, slots=True)
class _Source:
    """An image of the distribution; number: its place among those of the split."""

    image: Path
    annotation: Path
    number: int


_Made = tuple[list[Record], list[Note]]


def prepare_visdrone(
    data: Path | str,
    out: Path | str,
    *,
    cut: Sequence[str] = ("train",),
    keep_ignored_regions: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, DatasetNotes]:
    """Write OUT/SPLIT/annotations.json and OUT/SPLIT/images/; returns what was noted, by split.

    data: a folder with VisDrone2019-DET-train and others (or train, val ...), each with images/ and annotations/.
    cut: splits whose images become NAME_0 to NAME_3 (top left, top right, bottom left, bottom right); images of others
    are copied as they are. keep_ignored_regions: as ignore regions, neither object nor background; False leaves them
    out as QueryDet's code does. workers: threads. progress: called with (images done, images in all).

    Everything is written under a temporary name beside `out` and renamed when complete. Images that cannot be read and
    files of labels that cannot be understood are left out and noted. Errors: ValueError where `data` has no such
    splits, a split to cut is not there, or `out` holds something already.
    """
    data, out = Path(data), Path(out)
    splits = _splits(data)
    _check(data, splits, cut)
    require_free(out)
    work = [(split, _sources(folder)) for split, folder in splits.items()]
    count = _counter(sum(len(sources) for _, sources in work), progress)
    notes = {}
    with finished_folder(out) as unfinished:
        for split, sources in work:
            make = partial(_cut if split in cut else _copied, unfinished / split / "images", keep_ignored_regions)
            notes[split] = _write_split(unfinished / split, sources, make, workers, count)
    return notes


def _splits(data: Path) -> dict[str, Path]:
    """Folder by split: "VisDrone2019-DET-test-dev" is the split "test-dev"."""
    folders = sorted(data.iterdir()) if data.is_dir() else []
    complete = [folder for folder in folders if (folder / "images").is_dir() and (folder / "annotations").is_dir()]
    return {folder.name.lower().rpartition("det-")[2]: folder for folder in complete}


def _check(data: Path, splits: dict[str, Path], cut: Sequence[str]) -> None:
    if not splits:
        raise ValueError(
            f"expected folders such as VisDrone2019-DET-train with images/ and annotations/ in {shown(data)}, found "
            "none; unpack VisDrone's archives there"
        )
    missing = [split for split in cut if split not in splits]
    if missing:
        raise ValueError(f"expected splits to cut out of {', '.join(splits)}, got {', '.join(missing)}")


def _sources(folder: Path) -> list[_Source]:
    images = sorted(path for path in (folder / "images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return [_Source(image, folder / "annotations" / f"{image.stem}.txt", number) for number, image in enumerate(images)]


def _counter(total: int, progress: Progress | None) -> Iterator[None]:
    """Advanced once for each image."""
    for done in range(1, total + 1):
        if progress is not None:
            progress(done, total)
        yield


def _write_split(
    folder: Path, sources: Sequence[_Source], make: Callable[[_Source], _Made], workers: int, count: Iterator[None]
) -> DatasetNotes:
    (folder / "images").mkdir(parents=True)
    records: list[Record] = []
    notes: list[Note] = []
    with ThreadPoolExecutor(workers) as pool:
        for made, noted in pool.map(partial(_made, make), sources):
            records += made
            notes += noted
            next(count)
    dataset = DetectionDataset(folder, "VisDrone", folder.name, CLASSES, records, DatasetNotes(tuple(notes)))
    truth = dataset.coco_ground_truth()
    (folder / "annotations.json").write_text(json.dumps(truth), encoding="utf-8")
    return dataset.notes


def _made(make: Callable[[_Source], _Made], source: _Source) -> _Made:
    try:
        return make(source)
    except UnreadableImageError as error:
        return [], [Note("unreadable_image", shown(source.image), error.reason)]
    except ValueError as error:
        return [], [Note("malformed_label", shown(source.annotation), str(error))]


def _cut(folder: Path, keep_ignored_regions: bool, source: _Source) -> _Made:
    """Four images and their records."""
    rows, notes = _rows(source)
    pixels = read_image(source.image)
    size_hw = (pixels.shape[1], pixels.shape[2])
    if min(size_hw) < 2:
        raise UnreadableImageError(source.image, f"it is {size_hw[1]} x {size_hw[0]} pixels, too small to be cut")
    chosen, patch, boxes = split_objects(rows, size_hw)
    records = []
    for index, window in enumerate(patches(size_hw)):
        file = folder / f"{source.image.stem}_{index}.jpg"
        here = patch == index
        regions = ignored_regions(rows, window) if keep_ignored_regions else rows[:0, :4]
        raw = _labels(boxes[here], class_indices(rows[chosen[here]]), regions)
        record, found = clean_record(file, source.number * _PATCHES + index + 1, (window.height, window.width), raw)
        crop = pixels[:, window.top : window.top + window.height, window.left : window.left + window.width]
        Image.fromarray(crop.permute(1, 2, 0).contiguous().numpy()).save(file, quality=_JPEG_QUALITY)
        records.append(record)
        notes += found
    return records, notes


def _copied(folder: Path, keep_ignored_regions: bool, source: _Source) -> _Made:
    """The image as it is, and its record."""
    rows, notes = _rows(source)
    pixels = read_image(source.image)
    size_hw = (pixels.shape[1], pixels.shape[2])
    objects = rows[judged(rows)]
    regions = ignored_regions(rows, Window(0, 0, *size_hw)) if keep_ignored_regions else rows[:0, :4]
    raw = _labels(objects[:, :4], class_indices(objects), regions)
    record, found = clean_record(folder / source.image.name, source.number + 1, size_hw, raw)
    shutil.copy2(source.image, folder / source.image.name)
    return [record], notes + found


def _rows(source: _Source) -> tuple[Rows, list[Note]]:
    if source.annotation.is_file():
        return read_rows(source.annotation), []
    return np.zeros((0, 6), dtype=np.int64), [Note("missing_labels", shown(source.image))]


def _labels(objects: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], regions: npt.NDArray[np.int64]) -> RawLabels:
    """Objects, then regions about any class; boxes as x, y, width, height."""
    boxes = np.concatenate([objects, regions]).astype(np.float64)
    boxes[:, 2:] += boxes[:, :2]
    of_any = np.full(len(regions), ANY_CLASS, dtype=np.int64)
    return RawLabels(
        boxes, np.concatenate([labels, of_any]), np.arange(len(boxes)) >= len(objects), np.full(len(boxes), np.nan)
    )
