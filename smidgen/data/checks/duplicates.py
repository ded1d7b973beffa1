"""Images that are there more than once, as the same file or as a near copy, in one split or, worse, in two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.data.checks.findings import Finding
from smidgen.data.checks.fingerprints import Fingerprint
from smidgen.data.checks.picture_facts import PictureFacts
from smidgen.data.checks.similarity import Hashes, Similar, similar_images
from smidgen.data.image_files import shown


@dataclass(frozen=True, slots=True)
class _Image:
    file: Path
    split: str
    fingerprint: Fingerprint


def duplicate_findings(facts_by_split: Mapping[str, Sequence[PictureFacts]]) -> Iterator[Finding]:
    """Each image is held against the earlier ones, in the order of the splits; entries of one file count once."""
    images = list(_images(facts_by_split))
    yield from _exact(images)
    if images:
        same, across = similar_images(_hashes(images))
        yield from (_similar("similar_image", images, pair) for pair in same)
        yield from (_similar("similar_image_in_two_splits", images, pair) for pair in across)


def shared_content(facts_by_split: Mapping[str, Sequence[PictureFacts]]) -> dict[bytes, list[str]]:
    """Splits by content, for content that is in several."""
    splits: dict[bytes, list[str]] = {}
    for image in _images(facts_by_split):
        splits.setdefault(image.fingerprint.content, []).append(image.split)
    return {content: names for content, names in splits.items() if len(set(names)) > 1}


def _images(facts_by_split: Mapping[str, Sequence[PictureFacts]]) -> Iterator[_Image]:
    for split, facts in facts_by_split.items():
        for fact in {fact.file: fact for fact in facts}.values():
            if fact.fingerprint is not None and fact.usable:
                yield _Image(fact.file, split, fact.fingerprint)


def _exact(images: Sequence[_Image]) -> Iterator[Finding]:
    first: dict[bytes, _Image] = {}
    first_of_split: dict[tuple[bytes, str], _Image] = {}
    for image in images:
        content = image.fingerprint.content
        earlier = first_of_split.setdefault((content, image.split), image)
        if earlier is not image:
            yield Finding("duplicate_file", shown(image.file), f"the same file as {shown(earlier.file)}")
        elsewhere = first.setdefault(content, image)
        if elsewhere.split != image.split:
            observed = f"the same file is in {elsewhere.split}: {shown(elsewhere.file)}"
            yield Finding("image_in_two_splits", shown(image.file), observed)


def _hashes(images: Sequence[_Image]) -> Hashes:
    content: dict[bytes, int] = {}
    split: dict[str, int] = {}
    return Hashes(
        gradient=np.array([image.fingerprint.gradient for image in images], dtype=np.uint64),
        thumbnail=np.stack([image.fingerprint.thumbnail for image in images]),
        content=np.array([content.setdefault(image.fingerprint.content, len(content)) for image in images]),
        split=np.array([split.setdefault(image.split, len(split)) for image in images]),
    )


def _similar(kind: str, images: Sequence[_Image], pair: Similar) -> Finding:
    first, second = images[pair.first], images[pair.second]
    observed = f"looks like {shown(first.file)} ({pair.bits} of 64 bits differ)"
    return Finding(kind, shown(second.file), observed)
