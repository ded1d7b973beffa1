"""Each image of a shard looked at as a whole, while the next ones are being read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torch import nn

from smidgen.data import UnreadableImageError
from smidgen.inference.archives.answers import Answers, Unreadable
from smidgen.inference.archives.inputs import load_image
from smidgen.inference.loaded_images import DetectionSettings, LoadedImage, detect_loaded

IMAGES_READ_AHEAD = 8
READING_THREADS = 2


@dataclass(frozen=True, slots=True)
class WholeImages:
    """Detects in each image as a whole. batch_size: images at a time."""

    settings: DetectionSettings
    batch_size: int
    device: str

    def __call__(self, model: nn.Module, files: Sequence[str]) -> Answers:
        """Answers of a shard."""
        answers = Answers()
        images = _readable(read_ahead(files), answers)
        for found in detect_loaded(model, images, self.settings, batch_size=self.batch_size, device=self.device):
            answers.by_file[found.file] = found
        return answers

    def described(self) -> dict[str, Any]:
        """For the manifest."""
        return {"detection": "whole images"}


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
    images: Iterable[tuple[str, LoadedImage | UnreadableImageError]], answers: Answers
) -> Iterator[LoadedImage]:
    """The images that could be read; the others get their answer here."""
    for file, image in images:
        if isinstance(image, UnreadableImageError):
            answers.by_file[file] = Unreadable(image.reason)
        else:
            yield image
