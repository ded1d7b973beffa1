"""Images with one label file each, read into records: what is missing or broken is noted and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.image_files import IMAGE_SUFFIXES, UnreadableImageError, read_size_hw, shown
from smidgen.data.labels import Label, RawRecord, clean_records, joined_regions, raw_labels
from smidgen.data.notes import DatasetNotes, Note
from smidgen.data.recognized import SplitContents
from smidgen.structures import Classes


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image file, its label file and its (height, width) in px."""

    image: Path
    labels: Path
    size_hw: tuple[int, int]


# Its annotations and what could not be understood.
ReadLabels = Callable[[LabeledImage], tuple[list[Label], list[Note]]]


def read_labeled(
    images: Iterable[tuple[Path, Path]], classes: Classes, read_labels: ReadLabels, remark: str = ""
) -> SplitContents:
    """The records of (image, label file) pairs, numbered from 1 in their order: these formats have no ids."""
    described: list[RawRecord] = []
    notes: list[Note] = []
    for number, (image, file) in enumerate(images, start=1):
        one, found = _described(image, file, number, len(classes), read_labels)
        notes += found
        described += one
    records, mended = clean_records(described)
    return SplitContents(classes, tuple(records), DatasetNotes((*notes, *mended)), remark)


def _described(
    image: Path, file: Path, number: int, num_classes: int, read_labels: ReadLabels
) -> tuple[list[RawRecord], list[Note]]:
    """The image with its annotations; none where it cannot be used."""
    if not image.is_file():
        return [], [Note("missing_image", shown(image))]
    try:
        size_hw = read_size_hw(image)
    except UnreadableImageError as error:
        return [], [Note("unreadable_image", shown(image), error.reason)]
    labels, notes = _labels(LabeledImage(image, file, size_hw), read_labels)
    return [RawRecord(image, number, size_hw, joined_regions(raw_labels(labels), num_classes))], notes


def _labels(labeled: LabeledImage, read_labels: ReadLabels) -> tuple[list[Label], list[Note]]:
    if not labeled.labels.is_file():
        return [], [Note("missing_labels", shown(labeled.image))]
    try:
        return read_labels(labeled)
    except OSError as error:
        return [], [Note("malformed_label", shown(labeled.labels), error.strerror or str(error))]


def images_below(folder: Path) -> Iterator[Path]:
    """Image files of a folder and its folders, in the order of their names."""
    yield from sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def images_by_name(folder: Path) -> dict[str, Path]:
    """Image files by their path below the folder without its suffix, as lists of splits name them."""
    return {str(file.relative_to(folder).with_suffix("")): file for file in images_below(folder)}


def listed_image(folder: Path, by_name: Mapping[str, Path], line: str) -> Path:
    """The image that a line of a split's list names, with or without its suffix; a path that may not exist."""
    for name in (line, line.strip(), line.split()[0]):
        if name in by_name:
            return by_name[name]
        if (folder / name).is_file():
            return folder / name
    return folder / f"{line.strip()}.jpg"


def label_beside(image: Path, images: Path, labels: Path, suffix: str) -> Path:
    """The label file that mirrors an image's place below its folder."""
    place = image.relative_to(images) if image.is_relative_to(images) else Path(image.name)
    return labels / place.with_suffix(suffix)
