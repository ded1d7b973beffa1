"""What a worker does, whichever engine started it: take a shard, read ahead, detect, and put the tables in place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from smidgen.data import UnreadableImageError
from smidgen.inference.archives.attempts import MOST_ATTEMPTS, attempt, deaths, forget
from smidgen.inference.archives.inputs import load_image
from smidgen.inference.archives.manifest import Shard
from smidgen.inference.archives.parquet_shards import Outcome, Unreadable, finished_outcome, write_shard
from smidgen.inference.archives.storage import Storage
from smidgen.inference.loaded_images import DetectionSettings, LoadedImage, detect_loaded
from smidgen.structures import Detections

IMAGES_READ_AHEAD = 8
READING_THREADS = 2

Detect = Callable[[nn.Module, Iterator[LoadedImage]], Iterator[Detections]]
"""Images in memory to their detections, which have the image's name as their file."""


@dataclass(frozen=True, slots=True)
class WholeImages:
    """Detects in each image as a whole."""

    settings: DetectionSettings
    batch_size: int
    device: str

    def __call__(self, model: nn.Module, images: Iterator[LoadedImage]) -> Iterator[Detections]:
        """Detections of the images."""
        return detect_loaded(model, images, self.settings, batch_size=self.batch_size, device=self.device)


@dataclass(frozen=True, slots=True)
class Work:
    """All a worker is told, once; it can be sent to another process or host.

    threads: of torch, in each worker; None leaves torch's own number.
    """

    model: nn.Module
    storage: Storage
    detect: Detect
    device: str = "cpu"
    threads: int | None = None


class ShardDetector:
    """Answers shards of files with what became of them; the rows go to the storage."""

    def __init__(self, work: Work) -> None:
        if work.threads is not None:
            torch.set_num_threads(work.threads)
        self._storage, self._detect = work.storage, work.detect
        self._model = work.model.to(work.device).eval()

    def __call__(self, shard: Shard) -> Outcome:
        """Finish a shard, unless it is finished already or kills whoever takes it. Raises OSError."""
        # A worker that died may have finished the shard without being able to say so.
        finished = finished_outcome(self._storage, shard)
        if finished:
            return finished
        if deaths(self._storage, shard.name) >= MOST_ATTEMPTS:
            return Outcome(shard.index, failure=_given_up(shard, self._storage))
        with attempt(self._storage, shard.name):
            outcome = write_shard(self._storage, shard, self._answers(shard))
        forget(self._storage, shard.name)
        return outcome

    def _answers(self, shard: Shard) -> list[Detections | Unreadable]:
        answers: dict[str, Detections | Unreadable] = {}
        images = _readable(read_ahead(shard.files), answers)
        for detections in self._detect(self._model, images):
            answers[detections.file] = detections
        return [answers[file] for file in shard.files]


def read_ahead(files: Iterable[str]) -> Iterator[tuple[str, LoadedImage | UnreadableImageError]]:
    """Files in their order with their pixels or their error; a few are being read while another is looked at."""
    with ThreadPoolExecutor(READING_THREADS) as pool:
        waiting: deque[tuple[str, Future[Any]]] = deque()
        for file in files:
            waiting.append((file, pool.submit(_load, file)))
            if len(waiting) > IMAGES_READ_AHEAD:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _first(waiting: deque[tuple[str, Future[Any]]]) -> tuple[str, LoadedImage | UnreadableImageError]:
    file, future = waiting.popleft()
    return file, future.result()


def _load(file: str) -> LoadedImage | UnreadableImageError:
    try:
        return load_image(file)
    except UnreadableImageError as error:
        return error


def _readable(
    images: Iterable[tuple[str, LoadedImage | UnreadableImageError]], answers: dict[str, Detections | Unreadable]
) -> Iterator[LoadedImage]:
    """The images that could be read; the others get their answer here."""
    for file, image in images:
        if isinstance(image, UnreadableImageError):
            answers[file] = Unreadable(image.reason)
        else:
            yield image


def _given_up(shard: Shard, storage: Storage) -> str:
    return (
        f"{MOST_ATTEMPTS} workers died over its {len(shard.files)} files, {shard.files[0]} to {shard.files[-1]}; "
        f"look for a file that ends the process or needs too much memory, delete {storage.shown('attempts')} and "
        "start again"
    )
