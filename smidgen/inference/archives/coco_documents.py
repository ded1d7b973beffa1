"""An archive's tables as documents that others read: COCO results, and the predictions.json of `smidgen predict`."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.inference.archives.parquet_shards import DETECTIONS, IMAGES, finished_shards, read_rows
from smidgen.inference.archives.storage import Storage, open_storage

_RESULT_KEYS = ("image_id", "category_id", "bbox", "score")
_PREDICTION_KEYS = ("bbox", "score", "category_id", "category")


def coco_results(
    out: str | os.PathLike[str], image_ids: Mapping[str, int | str] | None = None
) -> Iterator[dict[str, Any]]:
    """One COCO result per detection of the archive at `out`, in the order of its files.

    image_ids: the ids that a ground truth gives to files (by the name in column `file`); None: the archive's own.
    Raises ValueError for a file that `image_ids` does not have.
    """
    storage = open_storage(out)
    for name in sorted(finished_shards(storage)):
        for row in read_rows(storage, DETECTIONS, name):
            result = {key: row[key] for key in _RESULT_KEYS}
            yield result if image_ids is None else result | {"image_id": _identity(row["file"], image_ids)}


def write_coco_results(
    out: str | os.PathLike[str], path: Path, image_ids: Mapping[str, int | str] | None = None
) -> None:
    """A JSON list of the archive's COCO results, as pycocotools' loadRes and `smidgen score` read it."""
    _write(path, "[", map(json.dumps, coco_results(out, image_ids)), "]\n")


def write_predictions(out: str | os.PathLike[str], path: Path) -> None:
    """The same document as `smidgen predict` writes without an engine, of the archive at `out`."""
    _write(path, '{"images": [', map(json.dumps, _predicted_images(open_storage(out))), "]}\n")


def _predicted_images(storage: Storage) -> Iterator[dict[str, Any]]:
    for name in sorted(finished_shards(storage)):
        rows = itertools.groupby(read_rows(storage, DETECTIONS, name), key=lambda row: row["image_id"])
        found = {image_id: list(detections) for image_id, detections in rows}
        for image in read_rows(storage, IMAGES, name):
            detections = [{key: row[key] for key in _PREDICTION_KEYS} for row in found.get(image["image_id"], ())]
            error = {} if image["error"] is None else {"error": image["error"]}
            yield {"file": image["file"], "detections": detections, **error}


def _write(path: Path, opening: str, entries: Iterable[str], closing: str) -> None:
    def fill(partial: Path) -> None:
        with partial.open("w", encoding="ascii") as stream:
            stream.write(opening)
            _write_entries(stream.write, entries)
            stream.write(closing)

    write_atomically(path, fill)


def _write_entries(write: Callable[[str], object], entries: Iterable[str]) -> None:
    for number, entry in enumerate(entries):
        write(f"{',' if number else ''}\n{entry}")


def _identity(file: str, image_ids: Mapping[str, int | str]) -> int | str:
    if file not in image_ids:
        raise ValueError(f"expected an image id for every file of the archive, got none for {file}")
    return image_ids[file]
