"""What an image is called in a written dataset: as before wherever the format allows it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.image_files import IMAGE_SUFFIXES
from smidgen.data.recognized import canonical_split, split_in_words

_IMAGE_FOLDERS = ("images", "Images", "JPEGImages")


@dataclass(frozen=True, slots=True)
class Naming:
    """What names must be like. folders: whether an image may lie in a folder of its own below that of the images.
    label_files: whether a label file with the image's stem goes with it; one_folder: whether splits share a folder."""

    folders: bool
    label_files: bool
    one_folder: bool = False


@dataclass(frozen=True, slots=True)
class NamedImage:
    """name: the image's path below the folder of images, with slashes. found_as: the same in the dataset read."""

    record: Record
    name: str
    found_as: str

    @property
    def is_renamed(self) -> bool:
        """Whether the name had to change."""
        return self.name != self.found_as


def name_images(splits: Sequence[DetectionDataset], naming: Naming) -> list[list[NamedImage]]:
    """Names of the images of each split, no two alike in a folder."""
    taken: set[str] = set()
    named = []
    for split in splits:
        taken = taken if naming.one_folder else set()
        found = _found_names(split)
        named.append(
            [
                NamedImage(record, _free_name(_allowed(name, record.file, naming), split.split, taken, naming), name)
                for record, name in zip(split.records, found, strict=True)
            ]
        )
    return named


def _found_names(split: DetectionDataset) -> list[str]:
    files = [Path(os.path.normpath(record.file)) for record in split.records]
    base = _image_folder(Path(os.path.commonpath([file.parent for file in files])), split.split) if files else Path()
    return [file.relative_to(base).as_posix() for file in files]


def _image_folder(shared: Path, split: str) -> Path:
    """The folder of images at or above the folder that all images share: what lies below it belongs to their names."""
    for folder in (shared, *shared.parents):
        if folder.name in _IMAGE_FOLDERS:
            below = shared.relative_to(folder).parts[:1]
            is_split = below and split in (canonical_split(below[0]), split_in_words(below[0]))
            return folder / below[0] if is_split else folder
    return shared


def _allowed(name: str, file: Path, naming: Naming) -> str:
    if not naming.label_files:
        return name
    # Lists of images have one name per line.
    name = "/".join(part.strip() for part in name.replace("\n", "_").replace("\r", "_").split("/"))
    name = name if naming.folders else name.replace("/", "_")
    # Folders are searched for files with these suffixes.
    return name if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name + _suffix(file)


def _suffix(file: Path) -> str:
    try:
        with Image.open(file) as picture:
            kind = (picture.format or "").lower()
    except Exception:  # Pillow raises anything on broken files; the image is copied as it is
        return ".jpg"
    suffix = f".{kind}"
    return suffix if suffix in IMAGE_SUFFIXES else ".jpg"


def _free_name(wanted: str, split: str, taken: set[str], naming: Naming) -> str:
    for name in _candidates(PurePosixPath(wanted), split, naming):
        key = str(PurePosixPath(name).with_suffix("")) if naming.label_files else name
        if key not in taken:
            taken.add(key)
            return name
    raise AssertionError("candidates never end")


def _candidates(wanted: PurePosixPath, split: str, naming: Naming) -> Iterator[str]:
    yield str(wanted)
    if naming.one_folder:
        yield str(wanted.with_name(f"{split}_{wanted.name}"))
    number = 2
    while True:
        yield str(wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}"))
        number += 1
