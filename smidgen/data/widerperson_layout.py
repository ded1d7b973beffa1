"""WiderPerson: Images/, Annotations/NAME.jpg.txt with a count and then `label x1 y1 x2 y2`, and lists of the splits.

Zhang et al., "WiderPerson: A Diverse Dataset for Dense Pedestrian Detection in the Wild", IEEE TMM 2020. One class is
judged: label 1, pedestrians. Riders (2), partially visible persons (3), ignore regions (4) and crowds (5) are neither
object nor background. x2 and y2 are the last pixels that belong to a box: a width is x2 - x1 + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from smidgen.data.class_list import listed_names
from smidgen.data.dataset import ANY_CLASS
from smidgen.data.image_files import IMAGE_SUFFIXES, shown
from smidgen.data.labeled_images import LabeledImage, images_below, images_by_name, listed_image, read_labeled
from smidgen.data.labels import Label
from smidgen.data.notes import Note
from smidgen.data.recognized import SPLIT_ALIASES, Recognized, SplitContents
from smidgen.data.text_lines import excerpt, read_lines
from smidgen.structures import Classes

EXPECTS = "Images/ with Annotations/NAME.jpg.txt and train.txt, val.txt"

PEDESTRIAN = 1
IGNORED = range(2, 6)
CLASSES = Classes(("pedestrian",), (PEDESTRIAN,))
_COLUMNS = 5
_REMARK = "label 1 is the class, labels 2 to 5 are ignore regions"


def recognize(path: Path) -> Recognized | None:
    """The WiderPerson splits of a folder; None where there are none."""
    if not (path / "Images").is_dir() or not _has_labels(path / "Annotations"):
        return None
    names = [alias for aliases in SPLIT_ALIASES.values() for alias in aliases]
    listings = {name: path / f"{name}.txt" for name in names if (path / f"{name}.txt").is_file()}
    if not listings:
        return Recognized("found Annotations/*.txt", {path.name: partial(_read_split, path, None)})
    because = "found Annotations/*.txt with " + ", ".join(listing.name for listing in listings.values())
    return Recognized(because, {name: partial(_read_split, path, listing) for name, listing in listings.items()})


def _has_labels(folder: Path) -> bool:
    """Whether a label file is named after an image with its suffix."""
    return folder.is_dir() and any(Path(file.stem).suffix.lower() in IMAGE_SUFFIXES for file in folder.glob("*.txt"))


def _read_split(path: Path, listing: Path | None) -> SplitContents:
    return read_labeled(_images(path, listing), _classes(path), _labels, _REMARK)


def _classes(path: Path) -> Classes:
    names = listed_names(path)
    return Classes(names, CLASSES.ids) if len(names) == 1 else CLASSES


def _images(path: Path, listing: Path | None) -> Iterator[tuple[Path, Path]]:
    folder = path / "Images"
    if listing is None:
        images = list(images_below(folder))
    else:
        by_name = images_by_name(folder)
        images = [listed_image(folder, by_name, line) for line in read_lines(listing)]
    yield from ((image, path / "Annotations" / f"{image.name}.txt") for image in images)


def _labels(labeled: LabeledImage) -> tuple[list[Label], list[Note]]:
    labels, notes, file = [], [], shown(labeled.labels)
    lines = read_lines(labeled.labels)
    stated = lines.pop(0).strip() if lines and len(lines[0].split()) == 1 else str(len(lines))
    for line in lines:
        row = _row(line)
        if row is None:
            notes.append(Note("malformed_label", file, excerpt(line)))
        elif row[0] == PEDESTRIAN or row[0] in IGNORED:
            labels.append(_label(row))
        else:
            notes.append(Note("unknown_category", file, f"label {row[0]:g}"))
    if stated != str(len(lines)):
        notes.append(Note("malformed_label", file, f"says {excerpt(stated)} boxes and has {len(lines)}"))
    return labels, notes


def _row(line: str) -> list[float] | None:
    """label, x1, y1, x2, y2."""
    try:
        row = [float(value) for value in line.split()]
    except ValueError:
        return None
    return row if len(row) == _COLUMNS else None


def _label(row: list[float]) -> Label:
    label, x1, y1, x2, y2 = row
    box = (x1, y1, x2 + 1, y2 + 1)
    return Label(box, 0) if label == PEDESTRIAN else Label(box, ANY_CLASS, ignored=True)
