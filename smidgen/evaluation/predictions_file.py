"""Detections of a whole data set on disk, as the COCO results format has them: a JSON list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.evaluation.json_document import read_json


def write_predictions(path: Path, predictions: Sequence[Mapping[str, Any]]) -> None:
    """Write COCO results, one per line; OSError where that fails, and then the earlier file is still there."""
    lines = ",\n".join(json.dumps(dict(result)) for result in predictions)
    write_atomically(path, lambda partial: _write(partial, f"[\n{lines}\n]\n"))


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """COCO results from a JSON list. Raises ValueError where the file holds anything else."""
    results = read_json(path)
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise ValueError(
            f"expected {path} to be a JSON list of COCO results (image_id, category_id, bbox, score), "
            f"got a {type(results).__name__}"
        )
    return results


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
