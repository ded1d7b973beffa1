"""YOLO label files as written: labels whose image is gone, pixels instead of shares, boxes in another order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from smidgen.data.checks.box_order import corners_mistaken_for_size
from smidgen.data.checks.findings import Finding
from smidgen.data.dataset import Record
from smidgen.data.image_files import IMAGE_SUFFIXES, shown
from smidgen.data.yolo_layout import label_file

_ROUNDING = 1e-3


def yolo_file_findings(records: Sequence[Record]) -> Iterator[Finding]:
    """Of the label files that belong, or could belong, to the images of a split."""
    yield from _without_image(records)
    boxes = []
    for file in dict.fromkeys(label_file(record.file) for record in records):
        found = _boxes(file)
        above = (found > 1 + _ROUNDING).any(axis=1)
        if above.any():
            values = " ".join(f"{value:g}" for value in found[int(np.argmax(above))])
            yield Finding(
                "not_normalized", shown(file), f"{int(above.sum())} boxes have values above 1, first {values}"
            )
        boxes.append(found)
    yield from _order(records, np.concatenate(boxes)) if boxes else ()


def _without_image(records: Sequence[Record]) -> Iterator[Finding]:
    folders = {label_file(record.file).parent: record.file.parent for record in records}
    for labels, images in folders.items():
        names = {file.stem for file in images.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES}
        for file in sorted(labels.glob("*.txt")) if labels.is_dir() else ():
            if file.stem not in names and len(_boxes(file)):
                yield Finding("label_without_image", shown(file), f"{len(_boxes(file))} boxes, no image {file.stem}.*")


def _boxes(file: Path) -> Float[np.ndarray, "N 4"]:
    """The four numbers of each line that is a box; polygons and broken lines are the reader's business."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    rows = [row for row in map(_numbers, lines) if len(row) == 5]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)[:, 1:]


def _numbers(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return []


def _order(records: Sequence[Record], written: Float[np.ndarray, "N 4"]) -> Iterator[Finding]:
    center, half = written[:, :2], written[:, 2:] / 2
    leaves = np.maximum(half - center, center + half - 1).max(axis=1, initial=0.0) > _ROUNDING
    if corners_mistaken_for_size(written, leaves, np.ones_like(center)):
        observed = f"{int(leaves.sum())} of {len(leaves)} boxes leave their image when read as center and size"
        yield Finding("box_order", shown(label_file(records[0].file).parent), observed)
