"""DOTA: images/ beside labelTxt/, where a line gives the four corners of a rotated box, its class and a difficulty.

Xia et al., "DOTA: A Large-scale Dataset for Object Detection in Aerial Images", CVPR 2018. A line is
`x1 y1 x2 y2 x3 y3 x4 y4 category difficult`; lines such as `imagesource:GoogleEarth` and `gsd:0.14` come first. Boxes
are read as the horizontal ones that enclose the corners. Difficult objects (1, and 2 in later versions) become ignore
regions, as the development kit neither rewards nor punishes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from smidgen.data.class_list import classes_named, listed_names
from smidgen.data.image_files import shown
from smidgen.data.labeled_images import LabeledImage, images_below, read_labeled
from smidgen.data.labels import Label
from smidgen.data.notes import Note
from smidgen.data.recognized import Recognized, SplitContents
from smidgen.data.text_lines import excerpt, legible, read_lines

EXPECTS = "SPLIT/images/ with SPLIT/labelTxt/*.txt, or images/ with labelTxt/"

_VERSION_1_0 = (
    "plane",
    "baseball-diamond",
    "bridge",
    "ground-track-field",
    "small-vehicle",
    "large-vehicle",
    "ship",
    "tennis-court",
    "basketball-court",
    "storage-tank",
    "soccer-ball-field",
    "roundabout",
    "harbor",
    "swimming-pool",
    "helicopter",
)
_VERSION_1_5 = (*_VERSION_1_0, "container-crane")
_VERSION_2_0 = (*_VERSION_1_5, "airport", "helipad")
# Of DOTA-v1.0, v1.5 and v2.0, the smallest list that has the names found.
CATEGORY_NAMES = (_VERSION_1_0, _VERSION_1_5, _VERSION_2_0)

_CORNERS = 8
_HEADER = re.compile(r"\s*(imagesource|gsd|acquisition dates)\s*:", re.IGNORECASE)

# Class name, horizontal box, difficult.
_Object = tuple[str, tuple[float, float, float, float], bool]


def recognize(path: Path) -> Recognized | None:
    """The DOTA splits below a folder, or the one that it is itself; None where there are none."""
    if not path.is_dir():
        return None
    folders = {folder: _label_folder(folder) for folder in (path, *sorted(path.glob("*/")))}
    found = {folder: labels for folder, labels in folders.items() if labels and (folder / "images").is_dir()}
    if not found:
        return None
    names = ", ".join(shown(labels.relative_to(path)) for labels in found.values())
    labels = list(found.values())
    splits = {folder.name: partial(_read_split, path, labels, folder) for folder in found}
    return Recognized(f"found images with {names}", splits)


def _label_folder(folder: Path) -> Path | None:
    """labelTxt, or the highest version such as labelTxt-v2.0."""
    plain = folder / "labelTxt"
    versions = [labels for labels in sorted(folder.glob("labelTxt*/")) if labels != plain]
    return plain if plain.is_dir() else (versions[-1] if versions else None)


def _read_split(path: Path, label_folders: Sequence[Path], folder: Path) -> SplitContents:
    names = {name for labels in label_folders for file in labels.rglob("*.txt") for name, _, _ in _parse(file)[0]}
    classes, classes_from = classes_named(names, (listed_names(path), *CATEGORY_NAMES))
    index_of_name = {name: index for index, name in enumerate(classes.names)}
    remark = f"{classes_from}; rotated boxes are read as the horizontal ones around them"
    return read_labeled(_images(folder), classes, partial(_labels, index_of_name), remark)


def _images(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Archives unpack into one more folder, and not the same for images and labels: files belong together by name."""
    images, labels = folder / "images", _label_folder(folder) or folder
    by_stem = {file.stem: file for file in sorted(labels.rglob("*.txt"))}
    for image in images_below(images):
        mirrored = labels / image.relative_to(images).with_suffix(".txt")
        yield image, mirrored if mirrored.is_file() else by_stem.get(image.stem, mirrored)


def _labels(index_of_name: Mapping[str, int], labeled: LabeledImage) -> tuple[list[Label], list[Note]]:
    objects, notes = _parse(labeled.labels)
    return [Label(box, index_of_name[name], difficult) for name, box, difficult in objects], notes


def _parse(file: Path) -> tuple[list[_Object], list[Note]]:
    objects, notes = [], []
    for line in read_lines(file):
        parsed = None if _HEADER.match(line) else _object(line)
        if parsed is not None:
            objects.append(parsed)
        elif not _HEADER.match(line):
            notes.append(Note("malformed_label", shown(file), excerpt(line)))
    return objects, notes


def _object(line: str) -> _Object | None:
    # The results of some programs put commas between the numbers.
    words = line.replace(",", " ").split()
    try:
        corners = [float(word) for word in words[:_CORNERS]]
    except ValueError:
        return None
    rest = words[_CORNERS:]
    if len(corners) < _CORNERS or not rest:
        return None
    x, y = corners[0::2], corners[1::2]
    difficulty = rest.pop() if len(rest) > 1 and rest[-1].isdecimal() else "0"
    return legible(" ".join(rest)), (min(x), min(y), max(x), max(y)), int(difficulty) > 0
