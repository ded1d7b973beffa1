"""Detections of a checkpoint on a data set, kept in a folder and used again while weights and images are the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen import __version__
from smidgen.checkpoints.atomic_write import write_folder_atomically
from smidgen.checkpoints.native import CONFIG_FILE, WEIGHTS_FILE, checkpoint_folder, load
from smidgen.data import DetectionDataset
from smidgen.evaluation.detect_and_score import evaluate
from smidgen.evaluation.predictions_file import read_predictions, write_predictions
from smidgen.evaluation.protocol import Protocol

PREDICTIONS_FILE, SOURCE_FILE = "predictions.json", "source.json"


@dataclass(frozen=True, slots=True)
class CachedDetections:
    """results: COCO results with the data set's ids. skipped: images that could not be read. file: where they are.

    reused: whether they were there already.
    """

    results: Sequence[Mapping[str, Any]]
    skipped: tuple[str, ...]
    file: Path
    reused: bool


def cached_detections(
    run: Path,
    dataset: DetectionDataset,
    cache: Path,
    *,
    protocol: Protocol,
    batch_size: int = 2,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CachedDetections:
    """Everything the model of `run` detects in `dataset`, from `cache` where it is there.

    protocol: judged by on the way; detections do not depend on it. Raises ValueError for what is no checkpoint, and
    where model and data share no class.
    """
    checkpoint = checkpoint_folder(run)
    key = detections_key(checkpoint, dataset)
    folder = cache / key
    if (folder / SOURCE_FILE).is_file():
        return _read(folder)
    found = evaluate(
        load(checkpoint), dataset, protocol=protocol, batch_size=batch_size, device=device, progress=progress
    )
    skipped = found.settings["skipped"]
    source = {"checkpoint": str(checkpoint), "data": str(dataset.path), "split": dataset.split, "skipped": skipped}

    def write(partial: Path) -> None:
        write_predictions(partial / PREDICTIONS_FILE, found.predictions)
        (partial / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")

    write_folder_atomically(folder, write)
    return CachedDetections(found.predictions, tuple(skipped), folder / PREDICTIONS_FILE, reused=False)


def detections_key(checkpoint: Path, dataset: DetectionDataset) -> str:
    """Fingerprint of what detections follow from: weights, configuration, our version, image files and class names.

    Image files go by path, size and time of change; labels do not matter.
    """
    digest = hashlib.sha256(__version__.encode())
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        with (checkpoint / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(repr((dataset.classes.names, dataset.classes.ids)).encode(errors="surrogateescape"))
    for record in dataset.records:
        stat = record.file.stat()
        line = f"{record.image_id!r}\0{record.size_hw}\0{stat.st_size}\0{stat.st_mtime_ns}\0"
        digest.update(line.encode(errors="surrogateescape") + os.fsencode(record.file.absolute()))
    return digest.hexdigest()[:16]


def _read(folder: Path) -> CachedDetections:
    source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
    results = read_predictions(folder / PREDICTIONS_FILE)
    return CachedDetections(results, tuple(source["skipped"]), folder / PREDICTIONS_FILE, reused=True)
