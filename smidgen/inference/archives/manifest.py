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
# How the user says what must be equal on every start; other settings of tiles go by their own names.
_REMEDIES = {
    "sources": "the SOURCES",
    "model": "the RUN",
    "weights": "the RUN (its weights are others)",
    "score": "--score",
    "max_detections": "--max-detections",
    "detection": "--tile or --guide:",
    "images_per_shard": "--shard-images",
    "tiling.tile_px": "--tile",
    "tiling.overlap_px": "--overlap in pixels",
    "tiling.merging.kind": "--merge",
    "tiling.merging.agnostic": "--agnostic",
    "tiling.whole_image": "--whole-image",
    "tiling.flips": "--flips",
    "tiling.scales": "--scales",
    "tiling.pixels.bands": "--bands",
    "tiling.pixels.value_range": "--value-range",
    "guide.scale": "--guide",
    "guide.threshold": "--guide-threshold",
    "guide.share": "--guide-share",
}
# What follows from the rest, and memory, of which another machine may have less. An overlap counts in pixels.
_FREE = {"num_images", "categories", "version", "tiling.overlap", "tiling.memory_bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """sources: as given, absolute. model, weights: the system's name and the fingerprint of all its numbers.

    score, max_detections, detection: what is kept of each image, and the way it is looked at; tiling, guide: with which
    settings, where that is in tiles. images_per_shard: files that are finished together. num_images: lines of
    `inputs.jsonl`. categories: COCO's, by class index.
    """

    sources: tuple[str, ...]
    model: str
    weights: str
    score: float
    max_detections: int | None
    detection: str
    images_per_shard: int
    num_images: int = 0
    categories: tuple[dict[str, Any], ...] = ()
    tiling: dict[str, Any] | None = None
    guide: dict[str, Any] | None = None
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
        if values.get("version") != VERSION or not set(values) <= known:  # an older one says nothing of tiles
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
    before, now = _by_path(begun), _by_path(asked)
    # Settings that only one of the two has, as those of tiles, say no more than `detection` does.
    differing = [
        f"{_REMEDIES.get(name, name)} {_short(before[name])}, now {_short(now[name])}"
        for name in before
        if name in now and name not in _FREE and before[name] != now[name]
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


def _by_path(manifest: Manifest) -> dict[str, Any]:
    """Every value by its name, those inside of others as in "tiling.merging.kind"; as JSON has them."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(manifest)))
    return dict(_flat(values))


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:60]}..."
