"""predictions.json written image by image; a reader sees the earlier file or the whole next one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from smidgen.structures import Detections


class PredictionsWriter:
    """Adds images to an open `{"images": [...], "counts": {...}}` document; the counts say what was added.

    guide: what a guide chose, to stand in the document, where one did.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.images = 0
        self.detections = 0
        self.unreadable = 0
        self.guide: Mapping[str, Any] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Images with an answer, detections in them, and images that could not be read."""
        return {"images": self.images, "detections": self.detections, "unreadable": self.unreadable}

    def add(self, detections: Detections) -> None:
        """Append one image's detections."""
        self._append(prediction_record(detections))
        self.images += 1
        self.detections += len(detections)

    def add_unreadable(self, file: Path, reason: str) -> None:
        """Append an image without an answer; its "error" tells it from one where nothing was found."""
        self._append({"file": str(file), "detections": [], "error": reason})
        self.unreadable += 1

    def _append(self, record: Mapping[str, Any]) -> None:
        first = not (self.images or self.unreadable)
        self._stream.write(("\n" if first else ",\n") + json.dumps(record))


@contextmanager
def predictions_file(path: Path, tiling: Mapping[str, Any] | None = None) -> Iterator[PredictionsWriter]:
    """Open `path` for streaming; it appears (or is replaced) only when the block ends without an error.

    tiling: the settings of tiled prediction, to stand in the document.
    """
    partial = path.with_name(f".partial-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="ascii") as stream:
            stream.write('{"images": [')
            writer = PredictionsWriter(stream)
            yield writer
            told = {"counts": writer.counts, "tiling": tiling, "guide": writer.guide}
            ending = [f'"{name}": {json.dumps(value)}' for name, value in told.items() if value is not None]
            stream.write(f"\n], {', '.join(ending)}}}\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def prediction_record(detections: Detections) -> dict[str, Any]:
    """One image for predictions.json: boxes [x, y, w, h] in its pixels, the dataset's category ids and names.

    A file name that is no UTF-8 keeps its bytes as Python's surrogate escapes, so that os.fsencode gives them back.
    """
    labels = detections.labels.tolist()
    results = zip(detections.to_coco(), labels, strict=True)
    return {"file": detections.file, "detections": [_entry(result, label, detections) for result, label in results]}


def _entry(result: dict[str, Any], label: int, detections: Detections) -> dict[str, Any]:
    name = detections.class_names[label] if detections.class_names else str(label)
    kept = {key: result[key] for key in ("bbox", "score", "category_id")}
    return {**kept, "category": name}
