"""Detections of an archive of any size, which may be interrupted at any moment and goes on where it was.

    begin: list the files once -> shards of files -> workers of an engine -> Parquet tables -> report

The engines differ in who does a shard, and in nothing else: what is finished is said by the storage alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from torch import nn

from smidgen.inference.archives.inputs import archive_files, listed
from smidgen.inference.archives.local_engine import run_locally
from smidgen.inference.archives.manifest import MANIFEST, Manifest, Shard, begin, check_same, read_manifest, shards
from smidgen.inference.archives.parquet_shards import Outcome, finished_shards, require_parquet
from smidgen.inference.archives.ray_engine import require_ray, run_on_ray
from smidgen.inference.archives.report import ArchiveReport, Tally, write_report
from smidgen.inference.archives.shard_detector import Detect, WholeImages, Work
from smidgen.inference.archives.storage import Storage, open_storage
from smidgen.inference.archives.weights_fingerprint import weights_fingerprint
from smidgen.inference.loaded_images import DetectionSettings
from smidgen.inference.sources import Source
from smidgen.structures import Classes

_LOGGER = logging.getLogger(__name__)

Engine = Literal["local", "ray"]

IMAGES_PER_SHARD = 256
SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, slots=True)
class Share:
    """One of `of` starts that share an archive, counted from 0: processes of torchrun, or jobs of a scheduler."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ValueError(f"expected a share from 0 to {self.of - 1} of {self.of}, got {self.index}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How an archive is worked on; nothing of it is a reason to refuse to go on.

    workers: processes with a copy of the model each. batch_size: images per batch. device: of each worker. threads: of
    torch in each worker. ray_address: of a cluster; None = this machine. share: of the shards, for this start.
    """

    engine: Engine = "local"
    workers: int = 1
    batch_size: int = 1
    device: str = "cpu"
    threads: int | None = None
    ray_address: str | None = None
    share: Share = field(default_factory=Share)

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ValueError(f"expected the engine local or ray, got {self.engine!r}; change --engine")
        if self.workers < 1 or self.batch_size < 1:
            raise ValueError(
                f"expected at least 1 worker and 1 image per batch, got --workers {self.workers}, "
                f"--batch-size {self.batch_size}"
            )


def predict_archive(
    model: nn.Module,
    sources: Source | Iterable[Source],
    out: str | os.PathLike[str],
    *,
    score: float = 0.3,
    max_detections: int = 300,
    images_per_shard: int | None = None,
    execution: Execution | None = None,
    on_progress: Callable[[Tally], object] | None = None,
) -> ArchiveReport:
    """Detect in all images of the sources and write Parquet tables to `out`; go on where an earlier start ended.

    sources: files, folders and patterns, on this disk or as URLs of fsspec (s3://bucket/folder); listed at the first
    start, and never again. out: a folder or URL that all workers reach. images_per_shard: files that are finished
    together (None: as begun, else 256). on_progress: called after each shard.

    Raises ValueError where the archive was begun with another model, other sources or settings, and where a package is
    missing; FileNotFoundError for a source that is not there; OSError where `out` cannot be written.
    """
    execution, storage = execution or Execution(), open_storage(out)
    require_parquet()
    if execution.engine == "ray":
        require_ray()
    settings = DetectionSettings(score, max_detections)
    asked = _asked(model, listed(sources), settings, images_per_shard)
    manifest = _begun(storage, asked, images_per_shard, execution.share)
    detect = WholeImages(settings, execution.batch_size, execution.device)
    tally = _work_through(model, storage, manifest, detect, execution, on_progress)
    return write_report(storage, manifest, tally)


def _asked(
    model: nn.Module, sources: tuple[str, ...], settings: DetectionSettings, images_per_shard: int | None
) -> Manifest:
    if images_per_shard is not None and images_per_shard < 1:
        raise ValueError(f"expected at least 1 image per shard, got {images_per_shard}; change --shard-images")
    classes = cast(Classes, model.classes)
    return Manifest(
        sources=sources,
        model=str(getattr(model, "name", type(model).__name__)),
        weights=weights_fingerprint(model),
        score=settings.score,
        max_detections=settings.max_detections,
        detection="whole images",
        images_per_shard=images_per_shard or IMAGES_PER_SHARD,
        categories=tuple({"id": number, "name": name} for name, number in zip(classes.names, classes.ids, strict=True)),
    )


def _begun(storage: Storage, asked: Manifest, images_per_shard: int | None, share: Share) -> Manifest:
    """The manifest of this archive, made by the first share."""
    manifest = read_manifest(storage)
    if manifest is None and share.index == 0:
        return begin(storage, asked, archive_files(asked.sources))
    if manifest is None:
        manifest = _waited_for(storage)
    if images_per_shard is None:
        asked = replace(asked, images_per_shard=manifest.images_per_shard)
    check_same(manifest, asked, storage)
    return manifest


def _waited_for(storage: Storage) -> Manifest:
    """The manifest, when the first share has written it."""
    _LOGGER.warning("waiting until share 0 has listed the files in %s", storage.shown(MANIFEST))
    while (manifest := read_manifest(storage)) is None:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return manifest


def _work_through(
    model: nn.Module,
    storage: Storage,
    manifest: Manifest,
    detect: Detect,
    execution: Execution,
    on_progress: Callable[[Tally], object] | None,
) -> Tally:
    remaining = list(_remaining(storage, manifest, execution.share))
    tally = Tally(sum(len(shard.files) for shard in remaining))
    work = Work(model.cpu(), storage, detect, execution.device, execution.threads)
    for outcome in _outcomes(work, remaining, execution):
        tally.add(outcome)
        if on_progress:
            on_progress(tally)
    return tally


def _remaining(storage: Storage, manifest: Manifest, share: Share) -> Iterator[Shard]:
    finished = finished_shards(storage)
    for shard in shards(storage, manifest):
        if shard.index % share.of == share.index and shard.name not in finished:
            yield shard


def _outcomes(work: Work, remaining: list[Shard], execution: Execution) -> Iterator[Outcome]:
    if not remaining:
        return iter(())
    workers = min(execution.workers, len(remaining))
    if execution.engine == "ray":
        return run_on_ray(work, remaining, workers, execution.ray_address)
    return run_locally(work, remaining, workers)
