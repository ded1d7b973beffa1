"""VisDrone-DET as it is distributed: SPLIT/images/ beside SPLIT/annotations/ with one row of numbers for each box.

Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021; the rows are described in
`smidgen.data.visdrone`. As in the challenge's toolkit, ignored regions (category 0) concern every class, a box of a
category with score 0 is neither right nor wrong for that category, and "others" (11) are no class: they are left out.
Where a classes.txt stands beside the splits, its names are the categories from 1 on and none of them is "others".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from smidgen.data.class_list import CLASS_LIST, listed_names
from smidgen.data.dataset import ANY_CLASS
from smidgen.data.image_files import shown
from smidgen.data.labeled_images import LabeledImage, images_below, label_beside, read_labeled
from smidgen.data.labels import Label
from smidgen.data.notes import Note
from smidgen.data.recognized import Recognized, SplitContents
from smidgen.data.text_lines import excerpt, read_lines
from smidgen.data.visdrone import CLASSES, IGNORED_REGION
from smidgen.structures import Classes

EXPECTS = "SPLIT/images/ with SPLIT/annotations/*.txt, such as VisDrone2019-DET-train"

OTHERS = 11
_COLUMNS = 6


def recognize(path: Path) -> Recognized | None:
    """The VisDrone splits below a folder, or the one that it is itself; None where there are none."""
    if not path.is_dir():
        return None
    folders = [folder for folder in (path, *sorted(path.glob("*/"))) if _is_split(folder)]
    if not folders:
        return None
    classes = _classes(folders[0].parent)
    because = "found " + ", ".join(f"{shown(folder.name)} with images and annotations/*.txt" for folder in folders)
    return Recognized(because, {_split_name(folder): partial(_read_split, folder, classes) for folder in folders})


def _split_name(folder: Path) -> str:
    """ "VisDrone2019-DET-test-dev" is the split "test-dev"."""
    return folder.name.lower().rpartition("det-")[2]


def _is_split(folder: Path) -> bool:
    labels = folder / "annotations"
    if not (folder / "images").is_dir() or not labels.is_dir():
        return False
    # An image without boxes has an empty file: look into several.
    files = list(islice(labels.glob("*.txt"), 50))
    lines = [line for file in files for line in read_lines(file)]
    return bool(files) and (not lines or any(line.count(",") >= _COLUMNS - 1 for line in lines))


def _classes(folder: Path) -> Classes:
    names = listed_names(folder)
    return Classes(names, tuple(range(1, len(names) + 1))) if names else CLASSES


def _read_split(folder: Path, classes: Classes) -> SplitContents:
    pairs = (
        (image, label_beside(image, folder / "images", folder / "annotations", ".txt")) for image in _images(folder)
    )
    remark = f"names from {CLASS_LIST}" if classes != CLASSES else "ignored regions are read, others (11) are left out"
    return read_labeled(pairs, classes, partial(_labels, classes), remark)


def _images(folder: Path) -> Iterator[Path]:
    yield from images_below(folder / "images")


def _labels(classes: Classes, labeled: LabeledImage) -> tuple[list[Label], list[Note]]:
    labels, notes, file = [], [], shown(labeled.labels)
    for line in read_lines(labeled.labels):
        row = _row(line)
        if row is None:
            notes.append(Note("malformed_label", file, excerpt(line)))
        elif row[-1] == IGNORED_REGION or row[-1] in classes.ids:
            labels.append(_label(row, classes))
        elif row[-1] != OTHERS:
            notes.append(Note("unknown_category", file, f"category {row[-1]:g}"))
    return labels, notes


def _row(line: str) -> list[float] | None:
    """x, y, width, height, score, category."""
    try:
        row = [float(value) for value in line.split(",")[:_COLUMNS]]
    except ValueError:
        return None
    return row if len(row) == _COLUMNS else None


def _label(row: list[float], classes: Classes) -> Label:
    x, y, width, height, score, category = row
    box = (x, y, x + width, y + height)
    if category == IGNORED_REGION:
        return Label(box, ANY_CLASS, ignored=True)
    return Label(box, classes.ids.index(int(category)), ignored=score == 0)
