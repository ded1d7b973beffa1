"""Pascal VOC: an XML file per image in Annotations/, images in JPEGImages/, splits in ImageSets/Main/.

Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010. Corners are pixel indices that count
from 1 and belong to the box: xmin = 1, xmax = width covers the image. Many programs write corners that count from 0
instead, and for a tiny object the pixel between the two readings matters: a dataset in which any corner is below 1 is
read that way. Objects marked difficult become ignore regions, as the challenge neither rewards nor punishes them. Also
read: images/ with annotations/*.xml, and SPLIT/ with its .xml beside its images (as Roboflow exports it).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from smidgen.data.class_list import classes_named, listed_names
from smidgen.data.image_files import shown
from smidgen.data.labeled_images import (
    LabeledImage,
    images_below,
    images_by_name,
    label_beside,
    listed_image,
    read_labeled,
)
from smidgen.data.labels import Label
from smidgen.data.notes import Note
from smidgen.data.recognized import SPLIT_ALIASES, UNION, Recognized, SplitContents
from smidgen.data.text_lines import read_lines

EXPECTS = "Annotations/*.xml with JPEGImages/ and ImageSets/Main/SPLIT.txt, or SPLIT/ with its .xml beside its images"

CATEGORY_NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
_LABEL_FOLDERS = ("Annotations", "annotations", "xmls")
_SPLITS = (*(alias for aliases in SPLIT_ALIASES.values() for alias in aliases), UNION)


@dataclass(frozen=True, slots=True)
class _Object:
    """name, corners (xmin ymin xmax ymax as written) and whether it is difficult."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """One split in one folder. listing: the file that names its images, None = all of them."""

    images: Path
    labels: Path
    listing: Path | None = None


_Parsed = tuple[list[_Object], list[Note]]


def recognize(path: Path) -> Recognized | None:
    """The VOC splits of a folder, of a VOCdevkit, or of a folder of splits; None where there are none."""
    if not path.is_dir():
        return None
    roots = [folder for folder in (path, *sorted(path.glob("*/")), *sorted(path.glob("*/*/"))) if _pair(folder)]
    splits = _listed_splits(roots) if roots else _beside_images(path)
    if not splits:
        return None
    parts = [part for found in splits.values() for part in found]
    labels = list(dict.fromkeys(part.labels for part in parts))
    because = "found .xml files in " + ", ".join(shown(folder.relative_to(path)) for folder in labels)
    return Recognized(because, {name: partial(_read_split, path, labels, found) for name, found in splits.items()})


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """(images, labels) of a folder that has both, with at least one .xml file."""
    images = next((folder / name for name in _IMAGE_FOLDERS if (folder / name).is_dir()), None)
    labels = next((folder / name for name in _LABEL_FOLDERS if _has_xml(folder / name)), None)
    return (images, labels) if images and labels else None


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and next(folder.rglob("*.xml"), None) is not None


def _listed_splits(roots: Sequence[Path]) -> dict[str, list[_Part]]:
    """VOC2007 and VOC2012 beside each other are one dataset."""
    splits: dict[str, list[_Part]] = defaultdict(list)
    for root in roots:
        images, labels = _pair(root) or (root, root)
        listings = [file for file in sorted((root / "ImageSets" / "Main").glob("*.txt")) if _lists_a_split(file)]
        for listing in listings:
            splits[listing.stem].append(_Part(images, labels, listing))
        if not listings:
            splits[root.name].append(_Part(images, labels))
    return dict(splits)


def _lists_a_split(file: Path) -> bool:
    """cat_train.txt and the like say for each image whether it shows a cat."""
    return file.stem.rpartition("_")[2] not in _SPLITS or file.stem in _SPLITS


def _beside_images(path: Path) -> dict[str, list[_Part]]:
    folders = [path, *sorted(path.glob("*/"))]
    beside = [folder for folder in folders if next(folder.glob("*.xml"), None) and next(images_below(folder), None)]
    return {folder.name: [_Part(folder, folder)] for folder in beside}


def _read_split(path: Path, label_folders: Sequence[Path], parts: Sequence[_Part]) -> SplitContents:
    parsed = {file: _parse(file) for folder in label_folders for file in sorted(folder.rglob("*.xml"))}
    every_object = [entry for objects, _ in parsed.values() for entry in objects]
    names = {entry.name for entry in every_object}
    classes, classes_from = classes_named(names, (listed_names(path), CATEGORY_NAMES))
    first = 0 if any(min(entry.corners[:2]) < 1 for entry in every_object) else 1
    index_of_name = {name: index for index, name in enumerate(classes.names)}
    remark = f"{classes_from}; corners count from {first}"
    return read_labeled(_images(parts), classes, partial(_labels, parsed, index_of_name, first), remark)


def _images(parts: Sequence[_Part]) -> Iterator[tuple[Path, Path]]:
    for part in parts:
        if part.listing is None:
            images = list(images_below(part.images))
        else:
            by_name = images_by_name(part.images)
            images = [listed_image(part.images, by_name, line) for line in read_lines(part.listing)]
        yield from ((image, label_beside(image, part.images, part.labels, ".xml")) for image in images)


def _labels(
    parsed: Mapping[Path, _Parsed], index_of_name: Mapping[str, int], first: int, labeled: LabeledImage
) -> tuple[list[Label], list[Note]]:
    if labeled.labels not in parsed:  # a list names an image outside of the folder
        return [], [Note("missing_labels", shown(labeled.image))]
    objects, notes = parsed[labeled.labels]
    return [_label(entry, index_of_name, first) for entry in objects], notes


def _label(entry: _Object, index_of_name: Mapping[str, int], first: int) -> Label:
    x0, y0, x1, y1 = entry.corners
    # The last pixel belongs to the box: counted from 1, its index is the border's coordinate counted from 0.
    return Label((x0 - first, y0 - first, x1, y1), index_of_name[entry.name], entry.difficult)


def _parse(file: Path) -> _Parsed:
    try:
        root = ElementTree.fromstring(file.read_bytes())
    # ValueError and LookupError: an encoding that is not known, or not what the file says.
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        return [], [Note("malformed_label", shown(file), str(error))]
    objects, notes = [], []
    for element in root.iter("object"):
        entry = _object(element)
        if entry is None:
            notes.append(Note("malformed_label", shown(file), f"object {element.findtext('name', '')!r}"))
        else:
            objects.append(entry)
    return objects, notes


def _object(element: ElementTree.Element) -> _Object | None:
    name = (element.findtext("name") or "").strip()
    try:
        x0, y0, x1, y1 = (float(element.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return None
    if not name or not all(math.isfinite(corner) for corner in (x0, y0, x1, y1)):
        return None
    return _Object(
        name, (x0, y0, x1, y1), (element.findtext("difficult") or "0").strip() not in ("0", "false", "False")
    )
