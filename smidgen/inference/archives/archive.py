"""Detections of an archive of any size, which may be interrupted at any moment and goes on where it was.

    begin: list the files once -> shards of files -> workers of an engine -> Parquet tables -> report

The engines differ in who does a shard, and in nothing else: what is finished is said by the storage alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

from torch import nn

from smidgen.inference.archives.answers import Detect
from smidgen.inference.archives.execution import Execution, Share
from smidgen.inference.archives.inputs import archive_files, listed
from smidgen.inference.archives.local_engine import run_locally
from smidgen.inference.archives.manifest import MANIFEST, Manifest, Shard, begin, check_same, read_manifest, shards
from smidgen.inference.archives.parquet_shards import Outcome, finished_shards, require_parquet
from smidgen.inference.archives.ray_engine import require_ray, run_on_ray
from smidgen.inference.archives.report import ArchiveReport, Tally, write_report
from smidgen.inference.archives.shard_detector import Work
from smidgen.inference.archives.storage import Storage, open_storage
from smidgen.inference.archives.tiled_images import TiledImages
from smidgen.inference.archives.weights_fingerprint import weights_fingerprint
from smidgen.inference.archives.whole_images import WholeImages
from smidgen.inference.guided_tiling import Guide, tile_chooser
from smidgen.inference.loaded_images import MOST_DETECTIONS, DetectionSettings
from smidgen.inference.sources import Source
from smidgen.inference.tiling.prediction import OnNote, TiledSettings, stated_memory
from smidgen.inference.tiling.settings import Tiling
from smidgen.structures import Classes

_LOGGER = logging.getLogger(__name__)

IMAGES_PER_SHARD, TILED_IMAGES_PER_SHARD = 256, 16
"""Where nobody says it; large images take minutes each, and a killed worker's shard is done again."""
SECONDS_BETWEEN_LOOKS = 0.5


def predict_archive(
    model: nn.Module,
    sources: Source | Iterable[Source],
    out: str | os.PathLike[str],
    *,
    score: float = 0.3,
    max_detections: int | None = None,
    tiling: Tiling | None = None,
    guide: Guide | None = None,
    images_per_shard: int | None = None,
    execution: Execution | None = None,
    on_progress: Callable[[Tally], object] | None = None,
    on_note: OnNote | None = None,
) -> ArchiveReport:
    """Detect in all images of the sources and write Parquet tables to `out`; go on where an earlier start ended.

    sources: files, folders and patterns, on this disk or as URLs of fsspec (s3://bucket/folder); listed at the first
    start, and never again. out: a folder or URL that all workers reach. max_detections: per image; None is 300, and no
    limit with `tiling`. tiling, guide: look at overlapping tiles, and only at those in which the guide sees something.
    images_per_shard: files that are finished together (None: as begun, else 256, or 16 with `tiling`). on_progress:
    called after each shard. on_note: hears of the memory that tiles will take, and of limits that were met (None:
    logged).

    Raises ValueError where the archive was begun with another model, other sources or settings, where a package is
    missing, and where one tile needs more memory than `tiling` allows; FileNotFoundError for a source that is not
    there; OSError where `out` cannot be written.
    """
    execution, storage, on_note = execution or Execution(), open_storage(out), on_note or _LOGGER.warning
    require_parquet()
    if execution.engine == "ray":
        require_ray()
    detect = _detection(model, execution, score, max_detections, tiling, guide)
    if isinstance(detect, TiledImages):  # what does not fit is said before anything is begun
        on_note("in each worker, " + stated_memory(model.to(execution.device).eval(), detect.settings))
    asked = _asked(model, listed(sources), detect, images_per_shard)
    manifest = _begun(storage, asked, images_per_shard, execution.share)
    tally = _work_through(model, storage, manifest, detect, execution, on_progress, on_note)
    return write_report(storage, manifest, tally)


def _detection(
    model: nn.Module,
    execution: Execution,
    score: float,
    max_detections: int | None,
    tiling: Tiling | None,
    guide: Guide | None,
) -> WholeImages | TiledImages:
    """How a shard is detected in. Raises ValueError for what cannot be."""
    settings = DetectionSettings(score, MOST_DETECTIONS if max_detections is None else max_detections)
    batch_size, device = execution.batch_size, execution.device
    tile_chooser(model, guide, tiling)  # which each worker makes for itself; what it refuses is said before
    if tiling is None:
        return WholeImages(settings, batch_size, device)
    tiled = TiledSettings(
        tiling=tiling.for_model(model),
        score=score,
        max_detections=max_detections,
        batch_size=batch_size,
        device=device,
    )
    return TiledImages(tiled, guide)


def _asked(
    model: nn.Module, sources: tuple[str, ...], detect: WholeImages | TiledImages, images_per_shard: int | None
) -> Manifest:
    if images_per_shard is not None and images_per_shard < 1:
        raise ValueError(f"expected at least 1 image per shard, got {images_per_shard}; change --shard-images")
    classes = cast(Classes, model.classes)
    usual = IMAGES_PER_SHARD if isinstance(detect, WholeImages) else TILED_IMAGES_PER_SHARD
    return Manifest(
        sources=sources,
        model=str(getattr(model, "name", type(model).__name__)),
        weights=weights_fingerprint(model),
        score=detect.settings.score,
        max_detections=detect.settings.max_detections,
        images_per_shard=images_per_shard or usual,
        categories=tuple({"id": number, "name": name} for name, number in zip(classes.names, classes.ids, strict=True)),
        **detect.described(),
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
    on_note: OnNote,
) -> Tally:
    remaining = list(_remaining(storage, manifest, execution.share))
    tally = Tally(sum(len(shard.files) for shard in remaining))
    work = Work(model.cpu(), storage, detect, execution.device, execution.threads)
    for outcome in _outcomes(work, remaining, execution):
        tally.add(outcome)
        for note in outcome.notes.splitlines():
            on_note(note)
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
