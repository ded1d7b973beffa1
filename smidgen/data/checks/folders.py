"""Images that lie in a dataset's folders without being part of it, and how many of its images are empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from smidgen.data.checks.findings import Finding
from smidgen.data.dataset import DetectionDataset
from smidgen.data.image_files import IMAGE_SUFFIXES, shown


def unlisted_images(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    """Image files beside those of the splits that no split lists; meaningful only where all splits are given."""
    records = [record for dataset in splits.values() for record in dataset.records]
    listed = {shown(record.file.resolve()) for record in records}
    # A file that a reader left out was listed, too; some notes give the name without its folder.
    noted = {Path(note.file).name for dataset in splits.values() for note in dataset.notes.notes}
    for folder in dict.fromkeys(record.file.parent for record in records):
        for file in sorted(folder.iterdir()):
            known = shown(file.resolve()) in listed or shown(file.name) in noted
            if file.suffix.lower() in IMAGE_SUFFIXES and not known and file.is_file():
                yield Finding("unlisted_image", shown(file), "no annotation file lists it")


def images_without_objects(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    """One finding for each split that has such images."""
    for split, dataset in splits.items():
        empty = [record for record in dataset.records if len(record) == 0]
        if empty:
            observed = f"{len(empty)} of {len(dataset)} images of {split}, first {shown(empty[0].file.name)}"
            yield Finding("images_without_objects", shown(dataset.path), observed)
