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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from smidgen.data.dataset import ANY_CLASS, DetectionDataset, Record
from smidgen.data.geometry import Window, resize_pixels
from smidgen.data.image_files import UnreadableImageError, read_image, shown
from smidgen.data.notes import DatasetNotes, Note
from smidgen.data.writing.coco import ANNOTATIONS, coco_content
from smidgen.data.writing.finished_folder import finished_folder
from smidgen.data.writing.image_copies import Progress
from smidgen.data.writing.image_names import NamedImage, Naming, name_images

WINDOWS = "windows.json"
_JPEG_QUALITY = 95
_MARGIN_PX = 5
_NAMING = Naming(folders=False, label_files=True)


@dataclass(frozen=True, slots=True)
class Tiling:
    """window_px, stride_px: side of the windows and step from one to the next, in pixels of the image on disk.
    resized_px: side of a window as it is written (None = as it is cut). ignored_share: an object of which this share of
    its area or less lies in a window is ignored there. only_labeled: splits whose windows without annotations are
    dropped and whose images are cut only as far as annotations reach."""

    window_px: int = 800
    stride_px: int = 650
    resized_px: int | None = None
    ignored_share: float = 0.4
    only_labeled: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        sides = (self.window_px, self.stride_px, 1 if self.resized_px is None else self.resized_px)
        if min(sides) < 1 or self.stride_px > self.window_px:
            raise ValueError(
                f"expected windows of at least 1 px and a stride of at most the window, got {self.window_px} px every "
                f"{self.stride_px} px, resized to {self.resized_px}; change the tiling"
            )

    @property
    def scale(self) -> float:
        """Pixels of a written window per pixel of its image."""
        return 1.0 if self.resized_px is None else self.resized_px / self.window_px


def starts_px(extent_px: int, window_px: int, stride_px: int) -> list[int]:
    """Where windows begin along one side of an image; the last one ends at its border."""
    last = max(extent_px - window_px, 0)
    return [*range(0, last, stride_px), last]


def windows(record: Record, tiling: Tiling, only_labeled: bool = False) -> list[Window]:
    """The windows of an image in the tool's order. only_labeled: of the part that annotations reach."""
    height, width = _reach(record) if only_labeled else record.size_hw
    side = tiling.window_px
    return [
        Window(top, left, side, side)
        for left in starts_px(width, side, tiling.stride_px)
        for top in starts_px(height, side, tiling.stride_px)
    ]


def _reach(record: Record) -> tuple[int, int]:
    """(height, width) up to the outermost annotation and a margin."""
    boxes = np.concatenate([np.zeros((1, 4)), record.boxes_xyxy, record.ignore_xyxy]).astype(np.int64)
    right, bottom = (boxes[:, 2:].max(axis=0) + _MARGIN_PX).tolist()
    return min(record.size_hw[0], bottom), min(record.size_hw[1], right)


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


def _table_row(window_record: Record, original: Record, window: Window, tiling: Tiling) -> dict[str, Any]:
    return {
        "image_id": window_record.image_id,
        "file": shown(window_record.file.name),
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


def window_record(record: Record, window: Window, tiling: Tiling) -> Record:
    """What is annotated in a window, in its written pixels. Regions about any class are gone: they are painted."""
    boxes, shares = _clipped(record.boxes_xyxy, window)
    kept, ignored = shares > tiling.ignored_share, (shares > 0) & (shares <= tiling.ignored_share)
    about = _region_labels(record)
    regions, region_shares = _clipped(record.ignore_xyxy, window)
    regions_kept = (region_shares > 0) & (about != ANY_CLASS)
    side = tiling.resized_px or tiling.window_px
    return Record(
        file=record.file,
        image_id=record.image_id,
        size_hw=(side, side),
        boxes_xyxy=(boxes[kept] * tiling.scale).astype(np.float32),
        labels=record.labels[kept],
        ignore_xyxy=(np.concatenate([regions[regions_kept], boxes[ignored]]) * tiling.scale).astype(np.float32),
        ignore_labels=np.concatenate([about[regions_kept], record.labels[ignored]]),
    )


def _region_labels(record: Record) -> npt.NDArray[np.int64]:
    if record.ignore_labels is None:
        return np.full(len(record.ignore_xyxy), ANY_CLASS, dtype=np.int64)
    return record.ignore_labels


def _clipped(
    boxes_xyxy: npt.NDArray[np.float32], window: Window
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Boxes in the window's pixels, clipped to it, and the share of their area that is inside."""
    boxes = boxes_xyxy.astype(np.float64)
    offset, limits = np.array([window.left, window.top] * 2), np.array([window.width, window.height] * 2)
    clipped = np.clip(boxes - offset, 0, limits)
    shares: npt.NDArray[np.float64] = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)
    return clipped, shares / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.finfo(np.float64).tiny)


def _painted(pixels: UInt8[Tensor, "3 H W"], record: Record) -> UInt8[Tensor, "3 H W"]:
    """Black where a region about any class lies and no object's box."""
    regions = record.ignore_xyxy[_region_labels(record) == ANY_CLASS]
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
