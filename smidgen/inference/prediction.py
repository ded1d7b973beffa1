"""Detections for any number of images: read, resize, detect, one batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.data import UnreadableImageError, read_image
from smidgen.data.geometry import resize_pixels
from smidgen.inference.sources import Source, image_files
from smidgen.structures import Detections, ImageBatch, Preprocessing

_LOGGER = logging.getLogger(__name__)

LARGEST_SHARE_OF_PADDING = 0.25  # an image that would leave more of the batch's canvas empty starts a new batch

OnUnreadable = Callable[[UnreadableImageError], None]


@dataclass(frozen=True, slots=True)
class _Input:
    file: Path
    pixels: Tensor
    original_hw: tuple[int, int]


def predict(
    model: nn.Module,
    sources: Source | Iterable[Source],
    *,
    score: float = 0.3,
    max_detections: int = 300,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    on_unreadable: OnUnreadable | None = None,
) -> Iterator[Detections]:
    """Detections of each image in pixels of that image, best first, in the order of the sources.

    sources: files, folders or glob patterns; only one batch of images is held in memory. Images that cannot be read
    are given to `on_unreadable` (None: logged as a warning) and skipped. Consecutive images share a batch while their
    sizes are alike. Raises ValueError for settings out of range, FileNotFoundError for a missing source.
    """
    _check(score, max_detections, batch_size)
    files = image_files(sources)
    model = model.to(device).eval()
    inputs = _readable(files, model_preprocessing(model), on_unreadable or _warn)
    return _detect_all(model, inputs, score, max_detections, batch_size, device)


def model_preprocessing(model: nn.Module) -> Preprocessing:
    """How this model wants its images."""
    config: Any = model.config
    preprocessing: Preprocessing = config.preprocessing
    return preprocessing


def _check(score: float, max_detections: int, batch_size: int) -> None:
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"expected a score threshold in [0, 1], got {score}; change --score")
    if max_detections < 1 or batch_size < 1:
        raise ValueError(
            f"expected at least 1 detection and 1 image per batch, got --max-detections {max_detections}, "
            f"--batch-size {batch_size}"
        )


def _warn(error: UnreadableImageError) -> None:
    _LOGGER.warning("skipped: %s", error)


def _readable(files: Iterable[Path], preprocessing: Preprocessing, on_unreadable: OnUnreadable) -> Iterator[_Input]:
    for file in files:
        try:
            image = read_image(file)
        except UnreadableImageError as error:
            on_unreadable(error)
            continue
        height, width = int(image.shape[-2]), int(image.shape[-1])
        resized = resize_pixels(image, preprocessing.resized_hw(height, width))
        yield _Input(file, resized, (height, width))


def _detect_all(
    model: nn.Module,
    inputs: Iterable[_Input],
    score: float,
    max_detections: int,
    batch_size: int,
    device: str | torch.device,
) -> Iterator[Detections]:
    preprocessing = model_preprocessing(model)
    for batch in batches_of_like_sizes(inputs, batch_size):
        images = ImageBatch.collate([one.pixels for one in batch], preprocessing.pad_multiple).to(device)
        with torch.inference_mode():
            answers = model.detect(images, [one.original_hw for one in batch])  # type: ignore[operator]
        for one, detections in zip(batch, answers, strict=True):
            chosen = detections.above(score)[:max_detections]
            yield replace(chosen, file=str(one.file), image_id=str(one.file))


def batches_of_like_sizes(inputs: Iterable[_Input], batch_size: int) -> Iterator[list[_Input]]:
    """Consecutive inputs in batches whose common canvas is at most a quarter padding."""
    batch: list[_Input] = []
    for one in inputs:
        if batch and (len(batch) == batch_size or _share_of_padding([*batch, one]) > LARGEST_SHARE_OF_PADDING):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _share_of_padding(batch: list[_Input]) -> float:
    sizes = [one.pixels.shape[-2:] for one in batch]
    canvas = max(height for height, _ in sizes) * max(width for _, width in sizes) * len(batch)
    return 1.0 - sum(height * width for height, width in sizes) / canvas
