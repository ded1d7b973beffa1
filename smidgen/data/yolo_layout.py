"""YOLO: images/ beside labels/, where a text file per image lists normalized boxes; data.yaml names classes and splits.

The layout as Ultralytics' documentation describes it: a line is `class cx cy w h` in [0, 1] of the image, or
`class x1 y1 x2 y2 ...` for a polygon, of which the enclosing box is taken. The format has no ignore regions and
numbers classes from 0; as Smidgen writes it, a folder ignored/ beside labels/ holds them in the same lines (class -1 =
any), and data.yaml has the classes' original ids under `category_ids`. Other programs overlook both.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from smidgen.data.class_list import CLASS_LIST, listed_names
from smidgen.data.dataset import ANY_CLASS
from smidgen.data.image_files import shown
from smidgen.data.labeled_images import LabeledImage, images_below, read_labeled
from smidgen.data.labels import Label
from smidgen.data.notes import Note
from smidgen.data.recognized import SPLIT_ALIASES, Recognized, SplitContents, canonical_split
from smidgen.data.text_lines import excerpt, read_lines
from smidgen.structures import Classes

EXPECTS = "data.yaml with names and train/val/test, or images/ beside labels/ with one .txt per image"

_LARGEST_CLASS = 10**5
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPLIT_NAMES = tuple(alias for aliases in SPLIT_ALIASES.values() for alias in aliases)

# Keys of a data.yaml that name no split.
_OTHER_KEYS = ("path", "names", "nc", "download", "yaml_file", "category_ids")
LABELS, IGNORED = "labels", "ignored"

# Class as written, and cx cy w h in [0, 1].
_Line = tuple[int, tuple[float, float, float, float]]


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
        content = yaml.safe_load(_text(file))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ValueError(f"{shown(file)} is not valid YAML: {error}") from error
    return content if isinstance(content, dict) else {}


def _text(file: Path) -> str | bytes:
    """YAML finds out UTF-8 and UTF-16 by itself; anything else is taken for Windows-1252."""
    content = file.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return content if content.startswith(_UTF_16) else content.decode("cp1252", "replace")
    return content


def _from_description(file: Path) -> Recognized | None:
    content = _load(file)
    classes = _classes(file, content)
    keys = [str(key) for key in content if _names_a_split(file, content, key)]
    if not keys:
        return None
    # Folders are looked up on reading: a test split that is not there must not keep anyone from training.
    splits = {canonical_split(key): partial(_read_described, file, content, key, classes) for key in keys}
    return Recognized(because=f"found {shown(file.name)} with {', '.join(keys)}", splits=splits)


def _names_a_split(file: Path, content: Mapping[str, Any], key: object) -> bool:
    """train, val, test and their aliases; another word where it leads to files."""
    if not isinstance(key, str) or not content[key] or key.lower() in _OTHER_KEYS:
        return False
    entry = content[key]
    return key.lower() in _SPLIT_NAMES or (isinstance(entry, str) and (file.parent / entry).exists())


def _read_described(file: Path, content: Mapping[str, Any], key: str, classes: Classes) -> SplitContents:
    return _read_split(_sources(file, content, key), classes, content.get("category_ids"))


def _classes(file: Path, content: Mapping[str, Any]) -> Classes:
    names = content.get("names")
    try:
        if isinstance(names, Mapping):
            ordered = sorted((int(index), str(name)) for index, name in names.items())
        elif isinstance(names, Sequence) and not isinstance(names, str):
            ordered = [(index, str(name)) for index, name in enumerate(names)]
        else:
            raise ValueError(f"got {names!r:.200}")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{shown(file)}: expected names as a list or as 'index: name' lines ({error})") from error
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
    return Recognized(because=f"{because}; no data.yaml with names, {_naming(path)}", splits=splits)


def _naming(path: Path) -> str:
    return f"names from {CLASS_LIST}" if listed_names(path) else "classes are named by their numbers"


def _numbered_classes(path: Path, image_folders: Sequence[Path]) -> Classes:
    """Names from classes.txt, else as many numbered classes as all splits' label files mention."""
    names = listed_names(path)
    if names:
        return Classes(names, tuple(range(len(names))))
    files = [file for folder in image_folders for file in _label_folder(folder, LABELS).rglob("*.txt")]
    lines = (_parse(line) for file in files for line in read_lines(file))
    highest = max((line[0] for line in lines if line is not None), default=-1)
    return Classes.numbered(highest + 1)


def _read_split(sources: Sequence[Path], classes: Classes, original_ids: object = None) -> SplitContents:
    """original_ids: what the classes' ids were before they were numbered, where the description says so."""
    pairs = ((image, label_file(image)) for image in _images(sources))
    index_of_id = {identity: index for index, identity in enumerate(classes.ids)}
    remark = f"{IGNORED}/ holds ignore regions" if any(_ignored_folder(source) for source in sources) else ""
    return read_labeled(pairs, _with_ids(classes, original_ids), partial(_labels, index_of_id), remark)


def _with_ids(classes: Classes, original_ids: object) -> Classes:
    if not isinstance(original_ids, list) or not all(isinstance(identity, int) for identity in original_ids):
        return classes
    return Classes(classes.names, tuple(original_ids)) if len(set(original_ids)) == len(classes) else classes


def _images(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from images_below(source)
        else:
            yield from (source.parent / line.strip() for line in read_lines(source))


def label_file(image: Path, kind: str = LABELS) -> Path:
    """The label file of an image: the last folder named images becomes labels, the suffix .txt. kind: or IGNORED."""
    return _label_folder(image.parent, kind) / f"{image.stem}.txt"


def _label_folder(image_folder: Path, kind: str) -> Path:
    parts = list(image_folder.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = kind
    return Path(*parts)


def _ignored_folder(source: Path) -> Path | None:
    """The folder of ignore regions that belongs to a folder of images."""
    folder = _label_folder(source, IGNORED)
    return folder if "images" in source.parts and folder.is_dir() else None


def _labels(index_of_id: Mapping[int, int], labeled: LabeledImage) -> tuple[list[Label], list[Note]]:
    labels, notes = _labels_of(labeled.labels, labeled.size_hw, index_of_id, ignored=False)
    ignored = label_file(labeled.image, IGNORED)
    if ignored == labeled.labels or not ignored.is_file():
        return labels, notes
    regions, found = _labels_of(ignored, labeled.size_hw, {**index_of_id, ANY_CLASS: ANY_CLASS}, ignored=True)
    return labels + regions, notes + found


def _labels_of(
    file: Path, size_hw: tuple[int, int], index_of_id: Mapping[int, int], ignored: bool
) -> tuple[list[Label], list[Note]]:
    """Only lines whose class is declared; the others are noted."""
    labels, notes = [], []
    for line in read_lines(file):
        parsed = _parse(line)
        if parsed is None:
            notes.append(Note("malformed_label", shown(file), excerpt(line)))
        elif parsed[0] not in index_of_id:
            notes.append(Note("unknown_category", shown(file), f"class {parsed[0]}"))
        else:
            labels.append(Label(_xyxy_px(parsed[1], size_hw), index_of_id[parsed[0]], ignored))
    return labels, notes


def _xyxy_px(
    box_cxcywh: tuple[float, float, float, float], size_hw: tuple[int, int]
) -> tuple[float, float, float, float]:
    (center_x, center_y, box_width, box_height), (height, width) = box_cxcywh, size_hw
    return (
        (center_x - box_width / 2) * width,
        (center_y - box_height / 2) * height,
        (center_x + box_width / 2) * width,
        (center_y + box_height / 2) * height,
    )


def _parse(line: str) -> _Line | None:
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
