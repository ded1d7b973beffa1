"""Large images cut into overlapping windows as SODA-D's are, with a table that leads from a window back to its image.

Cheng et al., "Towards Large-Scale Small Object Detection: Survey and Benchmarks", TPAMI 2023, as the tool of CFINet
(Yuan et al., ICCV 2023) cuts them: windows of 800 px every 650 px, from left to right and within that from top to
bottom; one that would pass the border is moved back to end there; what an image lacks of a window is black. Ignore
regions about any class are painted black, except where an object's box lies, and are gone; an object keeps its box
inside the window, to be ignored where that is 40 % of it or less. Training images are cut only as far as their
outermost annotation reaches (plus 5 px), and windows without annotations are dropped.

Differences: images without any annotation are cut, too, where windows without annotations are kept (the tool overlooks
them); regions about one class are cut and kept; PNG images make PNG windows. Networks see the windows at 1200 px: the
model's resizing can do that, or `resized_px` does it once on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from smidgen.data.dataset import ANY_CLASS, DetectionDataset, Record
from smidgen.data.finished_folder import finished_folder
from smidgen.data.geometry import Window, resize_pixels
from smidgen.data.image_files import UnreadableImageError, read_image, shown
from smidgen.data.notes import DatasetNotes, Note
from smidgen.data.sliding_windows import Tiling, window_record, windows
from smidgen.data.writing.coco import ANNOTATIONS, coco_content
from smidgen.data.writing.image_copies import Progress
from smidgen.data.writing.image_names import NamedImage, Naming, name_images

WINDOWS = "windows.json"
_JPEG_QUALITY = 95
_NAMING = Naming(folders=False, label_files=True)


def tile_dataset(
    splits: Sequence[DetectionDataset], out: Path | str, tiling: Tiling, *, progress: Progress | None = None
) -> dict[str, DetectionDataset]:
    """Write SPLIT/annotations.json, SPLIT/images/ and SPLIT/windows.json; returns the windows as datasets, by split.

    windows.json: {"windows": [{"image_id", "file", "original_image_id", "left", "top", "scale"}]}: a detection's x in
    the image is x / scale + left. annotations.json says it, too, as SODA-D's tool does (ori_id, start_coord).
    Images that cannot be read are left out and noted. progress: called with (images done, images in all). The folder
    appears when everything is in it. Errors: ValueError where `out` holds something.
    """
    out = Path(out).expanduser()
    count = _counter(sum(map(len, splits)), progress)
    made = {}
    with finished_folder(out) as folder:
        for split, named in zip(splits, name_images(splits, _NAMING), strict=True):
            made[split.split] = _write_split(split, named, folder / split.split, tiling, count)
    return made


def _counter(total: int, progress: Progress | None) -> Iterator[None]:
    """Advanced once for each image."""
    for done in range(1, total + 1):
        if progress is not None:
            progress(done, total)
        yield


def _write_split(
    split: DetectionDataset, named: Sequence[NamedImage], folder: Path, tiling: Tiling, count: Iterator[None]
) -> DetectionDataset:
    (folder / "images").mkdir(parents=True)
    records: list[Record] = []
    table: list[dict[str, Any]] = []
    notes: list[Note] = []
    for image in named:
        try:
            for window, record in _cut(image, folder / "images", tiling, split.split in tiling.only_labeled):
                records.append(replace(record, image_id=len(records) + 1))
                table.append(_table_row(records[-1], image.record, window, tiling))
        except UnreadableImageError as error:
            notes.append(Note("unreadable_image", shown(error.path), error.reason))
        next(count)
    made = replace(split, records=tuple(records), notes=DatasetNotes(tuple(notes)))
    content = coco_content(made, [NamedImage(record, record.file.name, record.file.name) for record in records])
    # As SODA-D's tool says where a window lies.
    for entry, row in zip(content["images"], table, strict=True):
        entry |= {"ori_id": row["original_image_id"], "start_coord": [row["left"], row["top"]]}
    (folder / ANNOTATIONS).write_text(json.dumps(content), encoding="ascii")
    (folder / WINDOWS).write_text(json.dumps({"windows": table}), encoding="ascii")
    return made


def _table_row(record: Record, original: Record, window: Window, tiling: Tiling) -> dict[str, Any]:
    return {
        "image_id": record.image_id,
        "file": shown(record.file.name),
        "original_image_id": original.image_id,
        "left": window.left,
        "top": window.top,
        "scale": tiling.scale,
    }


def _cut(image: NamedImage, folder: Path, tiling: Tiling, only_labeled: bool) -> Iterator[tuple[Window, Record]]:
    """The windows of an image, each written, with a record whose id is still the image's."""
    record = image.record
    pixels = read_image(record.file, record.size_hw)
    if pixels.shape[1:] != record.size_hw:
        raise UnreadableImageError(
            record.file, f"it is {pixels.shape[2]} x {pixels.shape[1]} px, unlike its annotations"
        )
    painted = _painted(pixels, record)
    number = 0
    for window in windows(record, tiling, only_labeled):
        inside = window_record(record, window, tiling)
        if only_labeled and not len(inside) and not len(inside.ignore_xyxy):
            continue
        place = folder / f"{Path(image.name).stem}_{number}{_suffix(image.name)}"
        _save(_window_pixels(painted, window), tiling.resized_px, place)
        number += 1
        yield window, replace(inside, file=place)


def _painted(pixels: UInt8[Tensor, "3 H W"], record: Record) -> UInt8[Tensor, "3 H W"]:
    """Black where a region about any class lies and no object's box."""
    regions = record.ignore_xyxy[record.region_labels == ANY_CLASS]
    if not len(regions):
        return pixels
    hidden = torch.zeros(pixels.shape[1:], dtype=torch.bool)
    for boxes, value in ((regions, True), (record.boxes_xyxy, False)):
        for x0, y0, x1, y1 in boxes.astype(np.int64).tolist():
            hidden[y0:y1, x0:x1] = value
    return pixels.masked_fill(hidden, 0)


def _window_pixels(pixels: UInt8[Tensor, "3 H W"], window: Window) -> UInt8[Tensor, "3 h w"]:
    """What of the image lies in the window, black where it ends."""
    part = pixels[:, window.top : window.top + window.height, window.left : window.left + window.width]
    missing = (0, window.width - part.shape[2], 0, window.height - part.shape[1])
    return torch.nn.functional.pad(part, missing)


def _suffix(name: str) -> str:
    return ".jpg" if Path(name).suffix.lower() in (".jpg", ".jpeg") else ".png"


def _save(pixels: UInt8[Tensor, "3 H W"], resized_px: int | None, place: Path) -> None:
    resized = pixels if resized_px is None else resize_pixels(pixels, (resized_px, resized_px))
    Image.fromarray(resized.permute(1, 2, 0).contiguous().numpy()).save(place, quality=_JPEG_QUALITY)
