"""Anybody's ground truth as one COCO document: a COCO json, VisDrone's txt files, or a dataset in any known layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.evaluation.annotations import category_names, image_identifiers
from smidgen.evaluation.json_document import read_json
from smidgen.evaluation.visdrone_files import read_visdrone_ground_truth, visdrone_folder


@dataclass(frozen=True, slots=True)
class GroundTruthSource:
    """document: COCO ground truth. layout: what was recognized, in words. notes: what was mended or left out."""

    document: Mapping[str, Any]
    layout: str
    notes: tuple[str, ...] = ()


def open_ground_truth(path: Path, split: str | None = None) -> GroundTruthSource:
    """The ground truth at `path`; split: which one, where a dataset folder has several.

    A json is taken as it is: its images need not be there. Raises ValueError where nothing known is found.
    """
    path = path.expanduser()
    if path.is_file() and path.suffix.lower() == ".json":
        return _coco(path)
    folder = visdrone_folder(path)
    if folder is not None:
        return GroundTruthSource(read_visdrone_ground_truth(folder), f"VisDrone txt files in {folder}")
    from smidgen.data import open_dataset  # it loads torch, which scoring json or txt files does not need

    dataset = open_dataset(path, split)
    layout = f"{dataset.layout}, split {dataset.split}"
    return GroundTruthSource(dataset.coco_ground_truth(), layout, tuple(dataset.notes.lines()))


def _coco(path: Path) -> GroundTruthSource:
    document = read_json(path)
    parts = ("images", "annotations", "categories")
    missing = [part for part in parts if not isinstance(document, dict) or not isinstance(document.get(part), list)]
    if missing:
        found = f"keys {list(document)[:6]}" if isinstance(document, dict) else f"a {type(document).__name__}"
        raise ValueError(f"expected COCO ground truth with lists of {', '.join(parts)} in {path}, got {found}")
    try:
        _ = image_identifiers(document), category_names(document)
    except ValueError as error:
        error.add_note(f"ground truth: {path}")
        raise
    return GroundTruthSource(document, f"COCO json {path}")
