"""A COCO file as written: what its reader accepts although other tools stumble over it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data.checks.box_order import corners_mistaken_for_size
from smidgen.data.checks.findings import Finding
from smidgen.data.image_files import shown

_Entries = Sequence[Mapping[str, Any]]


def coco_file_findings(file: Path) -> Iterator[Finding]:
    """Ids and files that are there twice, and boxes in another order. A file that the reader refuses gives none."""
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig", "surrogateescape"))
        images, annotations = list(content["images"]), list(content.get("annotations") or [])
        found = [*_ids(file, annotations), *_listed_twice(images), *_order(file, images, annotations)]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return
    yield from found


def _ids(file: Path, annotations: _Entries) -> Iterator[Finding]:
    counts = Counter(annotation["id"] for annotation in annotations if "id" in annotation)
    for identity, count in counts.items():
        if count > 1:
            yield Finding("duplicate_annotation_id", shown(file), f"{count} annotations have the id {identity}")
    if counts.get(0):
        yield Finding("annotation_id_zero", shown(file), "an annotation has the id 0")


def _listed_twice(images: _Entries) -> Iterator[Finding]:
    """The same file under several ids; the same id twice is what the reader notes."""
    ids: dict[str, set[Any]] = {}
    for image in images:
        ids.setdefault(str(image["file_name"]), set()).add(image["id"])
    for name, found in ids.items():
        if len(found) > 1:
            yield Finding("listed_twice", shown(name), f"listed with the ids {', '.join(sorted(map(str, found)))}")


def _order(file: Path, images: _Entries, annotations: _Entries) -> Iterator[Finding]:
    sizes = {image["id"]: (image.get("width"), image.get("height")) for image in images}
    rows = [
        (*annotation["bbox"], *sizes[annotation["image_id"]]) for annotation in annotations if _whole(annotation, sizes)
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    written, extent = table[:, :4], table[:, 4:]
    with np.errstate(over="ignore", invalid="ignore"):  # numbers that are no coordinates; the reader notes them
        leaves = (written[:, :2] + written[:, 2:] - extent).max(axis=1, initial=0.0) > 1
    if corners_mistaken_for_size(written, leaves, extent):
        observed = f"{int(leaves.sum())} of {len(leaves)} boxes leave their image when read as x y width height"
        yield Finding("box_order", shown(file), observed)


def _whole(annotation: Mapping[str, Any], sizes: Mapping[Any, tuple[Any, Any]]) -> bool:
    """Whether box and image size are numbers."""
    box, size = annotation.get("bbox"), sizes.get(annotation.get("image_id"), (None, None))
    numbers = [*box, *size] if isinstance(box, list) and len(box) == 4 else [None]
    return all(isinstance(number, int | float) for number in numbers)
