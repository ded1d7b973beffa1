"""YOLO: images/ beside labels/, where a text file per image lists normalized boxes; data.yaml names classes and splits.

The layout as Ultralytics' documentation describes it: a line is `class cx cy w h` in [0, 1] of the image, or
`class x1 y1 x2 y2 ...` for a polygon, of which the enclosing box is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from smidgen.data.dataset import Record
from smidgen.data.image_files import IMAGE_SUFFIXES, UnreadableImageError, read_size_hw, shown
from smidgen.data.labels import RawLabels, clean_record
from smidgen.data.notes import DatasetNotes, Note
from smidgen.data.recognized import SPLIT_ALIASES, Recognized, SplitContents, canonical_split
from smidgen.structures import Classes

EXPECTS = "data.yaml with names and train/val/test, or images/ beside labels/ with one .txt per image"

_LARGEST_CLASS = 10**6
_SPLIT_NAMES = tuple(alias for aliases in SPLIT_ALIASES.values() for alias in aliases)


@dataclass(frozen=True, slots=True)
class _Labels:
    """The lines of a label file. classes: indices as written; boxes: cx cy w h in [0, 1]."""

    classes: npt.NDArray[np.int64]
    boxes_cxcywh: npt.NDArray[np.float64]
    malformed: tuple[str, ...]


def recognize(path: Path) -> Recognized | None:
    """The YOLO splits of a folder or a data.yaml; None where there are none."""
    description = _description_file(path)
    if description is not None:
        return _from_description(description)
    return _from_folders(path) if path.is_dir() else None


def _description_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    files = [path / "data.yaml", path / "data.yml", *sorted(path.glob("*.yaml"))]
    return next((file for file in files if file.is_file() and "names" in _load(file)), None)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"{shown(file)} is not valid YAML: {error}") from error
    return content if isinstance(content, dict) else {}


def _from_description(file: Path) -> Recognized | None:
    content = _load(file)
    classes = _classes(file, content.get("names"))
    keys = [key for key in content if str(key).lower() in _SPLIT_NAMES and content[key]]
    if not keys:
        return None
    # Folders are looked up on reading: a test split that is not there must not keep anyone from training.
    splits = {canonical_split(key): partial(_read_described, file, content, key, classes) for key in keys}
    return Recognized(because=f"found {shown(file.name)} with {', '.join(keys)}", splits=splits)


def _read_described(file: Path, content: Mapping[str, Any], key: str, classes: Classes) -> SplitContents:
    return _read_split(_sources(file, content, key), classes)


def _classes(file: Path, names: object) -> Classes:
    if isinstance(names, Mapping):
        ordered = sorted((int(index), str(name)) for index, name in names.items())
    elif isinstance(names, Sequence) and not isinstance(names, str):
        ordered = [(index, str(name)) for index, name in enumerate(names)]
    else:
        raise ValueError(f"{shown(file)}: expected names as a list or as 'index: name' lines, got {names!r}")
    return Classes(tuple(name for _, name in ordered), tuple(index for index, _ in ordered))


def _sources(file: Path, content: Mapping[str, Any], key: str) -> list[Path]:
    """Folders or image lists of a split, as the description names them."""
    entries = content[key] if isinstance(content[key], list) else [content[key]]
    return [_source(file, str(content.get("path") or ""), str(entry)) for entry in entries]


def _source(file: Path, base: str, entry: str) -> Path:
    # Exported descriptions are often wrong about where they lie: "../train/images" beside train/, or a foreign root.
    roots = (file.parent / base, file.parent)
    names = (entry, entry.removeprefix("../"), entry.removeprefix("./"))
    candidates = [root / name for root in roots for name in names]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        tried = ", ".join(dict.fromkeys(shown(candidate) for candidate in candidates))
        raise ValueError(
            f"{shown(file)} names {entry!r}, which does not exist; looked for {tried}. Change {shown(file)}"
        )
    return found


def _from_folders(path: Path) -> Recognized | None:
    """images/SPLIT with labels/SPLIT, SPLIT/images with SPLIT/labels, or images with labels; classes are numbered."""
    folders = {folder.name: folder for folder in sorted((path / "images").glob("*/")) if folder.is_dir()}
    found = {name: folder for name, folder in folders.items() if (path / "labels" / name).is_dir()}
    found |= {
        folder.parent.name: folder for folder in sorted(path.glob("*/images")) if (folder.parent / "labels").is_dir()
    }
    if not found and (path / "images").is_dir() and (path / "labels").is_dir():
        found = {path.name: path / "images"}
    if not found:
        return None
    classes = _numbered_classes(path, list(found.values()))
    because = "found " + ", ".join(f"{shown(folder.relative_to(path))} with labels" for folder in found.values())
    splits = {name: partial(_read_split, [folder], classes) for name, folder in found.items()}
    return Recognized(because=f"{because}; no data.yaml, {_naming(path)}", splits=splits)


def _naming(path: Path) -> str:
    return "names from classes.txt" if (path / "classes.txt").is_file() else "classes are named by their numbers"


def _numbered_classes(path: Path, image_folders: Sequence[Path]) -> Classes:
    """Names from classes.txt, else as many numbered classes as all splits' label files mention."""
    if (path / "classes.txt").is_file():
        names = (path / "classes.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        kept = tuple(name.strip() for name in names if name.strip())
        return Classes(kept, tuple(range(len(kept))))
    files = [file for folder in image_folders for file in _label_folder(folder).rglob("*.txt")]
    highest = max((int(_read_labels(file).classes.max(initial=-1)) for file in files), default=-1)
    return Classes.numbered(highest + 1)


def _read_split(sources: Sequence[Path], classes: Classes) -> SplitContents:
    records: list[Record] = []
    notes: list[Note] = []
    index_of_id = {identity: index for index, identity in enumerate(classes.ids)}
    for number, image in enumerate(_images(sources), start=1):
        record, found = _record(image, number, index_of_id)
        notes += found
        if record is not None:
            records.append(record)
    return SplitContents(classes, tuple(records), DatasetNotes(tuple(notes)))


def _images(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from sorted(file for file in source.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        else:
            lines = source.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            yield from (source.parent / line.strip() for line in lines if line.strip())


def _record(image: Path, number: int, index_of_id: Mapping[int, int]) -> tuple[Record | None, list[Note]]:
    if not image.is_file():
        return None, [Note("missing_image", shown(image))]
    try:
        size_hw = read_size_hw(image)
    except UnreadableImageError as error:
        return None, [Note("unreadable_image", shown(image), error.reason)]
    file = label_file(image)
    if not file.is_file():
        record, _ = clean_record(image, number, size_hw, _raw(_no_labels(), size_hw, {}))
        return record, [Note("missing_labels", shown(image))]
    labels, notes = _known(file, _read_labels(file), index_of_id)
    record, found = clean_record(image, number, size_hw, _raw(labels, size_hw, index_of_id))
    return record, notes + found


def label_file(image: Path) -> Path:
    """The label file of an image: the last folder named images becomes labels, the suffix .txt."""
    return _label_folder(image.parent) / f"{image.stem}.txt"


def _label_folder(image_folder: Path) -> Path:
    parts = list(image_folder.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
    return Path(*parts)


def _no_labels() -> _Labels:
    return _Labels(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), ())


def _read_labels(file: Path) -> _Labels:
    classes, boxes, malformed = [], [], []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        parsed = _parse(line)
        if parsed is None:
            malformed.append(line.strip()[:80])
        else:
            classes.append(parsed[0])
            boxes.append(parsed[1])
    return _Labels(
        np.array(classes, dtype=np.int64), np.array(boxes, dtype=np.float64).reshape(-1, 4), tuple(malformed)
    )


def _parse(line: str) -> tuple[int, tuple[float, float, float, float]] | None:
    """(class, (cx, cy, w, h)) of a line, None where it is neither a box nor a polygon."""
    try:
        first, *values = (float(word) for word in line.split())
    except ValueError:
        return None
    if not first.is_integer() or abs(first) > _LARGEST_CLASS:
        return None
    if len(values) == 4:
        return int(first), (values[0], values[1], values[2], values[3])
    if len(values) >= 6 and len(values) % 2 == 0:
        return int(first), _enclosing(values[0::2], values[1::2])
    return None


def _enclosing(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float, float]:
    return (min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)


def _known(file: Path, labels: _Labels, index_of_id: Mapping[int, int]) -> tuple[_Labels, list[Note]]:
    """Only lines whose class is declared; the others are noted."""
    notes = [Note("malformed_label", shown(file), line) for line in labels.malformed]
    known = np.array([int(label) in index_of_id for label in labels.classes], dtype=np.bool_)
    notes += [Note("unknown_category", shown(file), f"class {label}") for label in labels.classes[~known]]
    return _Labels(labels.classes[known], labels.boxes_cxcywh[known], ()), notes


def _raw(labels: _Labels, size_hw: tuple[int, int], index_of_id: Mapping[int, int]) -> RawLabels:
    height, width = size_hw
    center, size = labels.boxes_cxcywh[:, :2], labels.boxes_cxcywh[:, 2:]
    boxes = np.concatenate([center - size / 2, center + size / 2], axis=1) * np.array([width, height, width, height])
    count = len(labels.classes)
    indices = np.array([index_of_id[int(label)] for label in labels.classes], dtype=np.int64)
    return RawLabels(boxes, indices, np.zeros(count, dtype=np.bool_), np.full(count, np.nan))
