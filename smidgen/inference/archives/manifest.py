"""What an archive was begun with, so that every later start goes on with the same files, model and settings.

`inputs.jsonl` holds one JSON string per file, whose line number (from 0) is its image id. `manifest.json` comes after
it and says that the list is complete. Neither is ever changed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from smidgen.inference.archives.storage import Storage

MANIFEST = "manifest.json"
INPUTS = "inputs.jsonl"
VERSION = 1
# What must be equal on every start, and how the user says it.
_REMEDIES = {
    "sources": "the SOURCES",
    "model": "the RUN",
    "weights": "the RUN (its weights are others)",
    "score": "--score",
    "max_detections": "--max-detections",
    "detection": "how images are detected",
    "images_per_shard": "--shard-images",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """sources: as given, absolute. model, weights: the system's name and the fingerprint of all its numbers.

    score, max_detections, detection: what is kept of each image, and the way it is looked at. images_per_shard: files
    that are finished together. num_images: lines of `inputs.jsonl`. categories: COCO's, by class index.
    """

    sources: tuple[str, ...]
    model: str
    weights: str
    score: float
    max_detections: int
    detection: str
    images_per_shard: int
    num_images: int = 0
    categories: tuple[dict[str, Any], ...] = ()
    version: int = VERSION

    @property
    def num_shards(self) -> int:
        """How many shards there will be."""
        return -(-self.num_images // self.images_per_shard)


@dataclass(frozen=True, slots=True)
class Shard:
    """Files that are finished together. index: counts from 0. first_id: the image id of its first file."""

    index: int
    first_id: int
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        """As its files are called."""
        return f"part-{self.index:06d}"


def read_manifest(storage: Storage) -> Manifest | None:
    """What the archive was begun with; None where nothing was begun. Raises ValueError for another's file."""
    if not storage.has(MANIFEST):
        return None
    try:
        values = json.loads(storage.read(MANIFEST))
        known = {field.name for field in fields(Manifest)}
        if values.get("version") != VERSION or set(values) != known:
            raise ValueError(f"it was written by another version ({values.get('version')})")
        return Manifest(**{**values, "sources": tuple(values["sources"]), "categories": tuple(values["categories"])})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected {storage.shown(MANIFEST)} to be the manifest of an archive: {error}; choose another --out"
        ) from error


def begin(storage: Storage, manifest: Manifest, files: Iterable[str]) -> Manifest:
    """Freeze the list of files and write the manifest; returns it with the number of images.

    Raises ValueError where there are no images.
    """
    lines = [json.dumps(file) for file in files]
    if not lines:
        raise ValueError(f"found no images in {', '.join(manifest.sources)}; folders are searched by suffix")
    storage.write(INPUTS, ("\n".join(lines) + "\n").encode("ascii"))
    whole = Manifest(**{**_values(manifest), "num_images": len(lines)})
    storage.write(MANIFEST, (json.dumps(asdict(whole), indent=2) + "\n").encode("ascii"))
    return whole


def check_same(begun: Manifest, asked: Manifest, storage: Storage) -> None:
    """Raises ValueError that names what is not as it was when the archive was begun."""
    differing = [
        f"{remedy} {_short(getattr(begun, name))}, now {_short(getattr(asked, name))}"
        for name, remedy in _REMEDIES.items()
        if getattr(begun, name) != getattr(asked, name)
    ]
    if differing:
        raise ValueError(
            f"the archive at {storage.shown()} was begun with {'; '.join(differing)}. "
            "Start it as it was begun, or choose another --out"
        )


def shards(storage: Storage, manifest: Manifest) -> Iterator[Shard]:
    """All shards in their order, with a shard's files in memory at a time."""
    lines = iter(storage.read(INPUTS).splitlines())
    for index in range(manifest.num_shards):
        files = tuple(json.loads(line) for line in itertools.islice(lines, manifest.images_per_shard))
        yield Shard(index, index * manifest.images_per_shard, files)


def _values(manifest: Manifest) -> dict[str, Any]:
    return {field.name: getattr(manifest, field.name) for field in fields(Manifest)}


def _short(value: object) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:60]}..."
