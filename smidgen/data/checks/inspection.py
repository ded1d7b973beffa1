"""The whole check of a dataset: every idea of this folder, asked in turn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.checks.boxes import box_findings
from smidgen.data.checks.categories import category_findings
from smidgen.data.checks.coco_file import coco_file_findings
from smidgen.data.checks.duplicates import duplicate_findings
from smidgen.data.checks.findings import Finding
from smidgen.data.checks.folders import images_without_objects, unlisted_images
from smidgen.data.checks.opening import OpenedDataset, open_splits
from smidgen.data.checks.picture_facts import PictureFacts, Progress, inspect_pictures
from smidgen.data.checks.pictures import picture_findings
from smidgen.data.checks.splits import same_paths
from smidgen.data.checks.yolo_files import yolo_file_findings
from smidgen.data.coco_layout import annotation_files


@dataclass(frozen=True, slots=True)
class Inspection:
    """dataset: its splits. pictures: facts of each record's file by split, None where they were not read. findings:
    all of them, in the order of the ideas."""

    dataset: OpenedDataset
    pictures: dict[str, list[PictureFacts]] | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What is lost or false."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What asks for a look."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")


def default_workers() -> int:
    """Threads that read images unless told otherwise."""
    return min(4, os.cpu_count() or 1)


def inspect_dataset(
    path: Path | str,
    split: str | None = None,
    *,
    images: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Look for everything that this folder knows. images: read every image to its end. progress: called with (images
    done, images in all). ValueError: there is no dataset at `path`, or it has no such split."""
    dataset = open_splits(path, split)
    pictures = _pictures(dataset, workers or default_workers(), progress) if images else None
    findings = [*dataset.findings, *_annotation_findings(dataset), *_picture_findings(dataset, pictures)]
    return Inspection(dataset, pictures, tuple(findings))


def _pictures(dataset: OpenedDataset, workers: int, progress: Progress | None) -> dict[str, list[PictureFacts]]:
    records = {split: opened.records for split, opened in dataset.splits.items()}
    files = [record.file for split in records.values() for record in split]
    facts = inspect_pictures(files, workers, progress)
    return {split: [next(facts) for _ in members] for split, members in records.items()}


def _annotation_findings(dataset: OpenedDataset) -> Iterator[Finding]:
    for opened in dataset.splits.values():
        yield from box_findings(opened.records)
        if dataset.layout == "yolo":
            yield from yolo_file_findings(opened.records)
    yield from _coco_findings(dataset)
    yield from category_findings(dataset.splits)
    yield from images_without_objects(dataset.splits)
    if dataset.complete:  # what is not listed by this split may be by another
        yield from unlisted_images(dataset.splits)


def _coco_findings(dataset: OpenedDataset) -> Iterator[Finding]:
    files = annotation_files(dataset.path) if dataset.layout == "coco" else {}
    for split, file in files.items():
        if split in dataset.splits or len(files) == 1:
            yield from coco_file_findings(file)


def _picture_findings(dataset: OpenedDataset, pictures: dict[str, list[PictureFacts]] | None) -> Iterator[Finding]:
    if pictures is None:
        yield from same_paths(dataset.splits)
        return
    for split, facts in pictures.items():
        yield from picture_findings(dataset.splits[split].records, facts)
    yield from duplicate_findings(pictures)
