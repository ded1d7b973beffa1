"""An image file held against its annotations: whether both speak of the same picture, the same way up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smidgen.data.checks.findings import Finding
from smidgen.data.checks.picture_facts import PictureFacts
from smidgen.data.dataset import Record
from smidgen.data.image_files import shown


def picture_findings(records: Sequence[Record], facts: Sequence[PictureFacts]) -> Iterator[Finding]:
    """What is wrong with the files, and where they differ from the records; facts: one for each record."""
    for record, fact in zip(records, facts, strict=True):
        yield from fact.findings
        if fact.stored_hw is not None and fact.usable:
            yield from _differences(record, fact)


def annotated_as_stored(record: Record, fact: PictureFacts) -> bool:
    """Whether the annotations were made on the pixels as stored, although EXIF says to turn them."""
    return fact.orientation != 1 and record.size_hw == fact.stored_hw != fact.upright_hw


def size_differs(record: Record, fact: PictureFacts) -> bool:
    """Whether the annotations were made for neither the stored nor the upright size."""
    return record.size_hw not in (fact.stored_hw, fact.upright_hw)


def _differences(record: Record, fact: PictureFacts) -> Iterator[Finding]:
    name = shown(record.file)
    if size_differs(record, fact) and fact.upright_hw is not None:
        annotated, there = _in_words(record.size_hw), _in_words(fact.upright_hw)
        yield Finding("size_mismatch", name, f"annotated as {annotated}, the file has {there} pixels")
    if fact.orientation != 1:
        way = "as stored" if annotated_as_stored(record, fact) else "upright"
        yield Finding("exif_rotated", name, f"EXIF orientation {fact.orientation}, boxes are read {way}")


def _in_words(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]} x {size_hw[0]}"
