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
from smidgen.inference.batching import batches_of_like_sizes as batches_of_like_sizes
from smidgen.inference.guided_tiling import Guide, GuidedTiles
from smidgen.inference.sources import Source, image_files
from smidgen.inference.tiling.prediction import predict_tiled
from smidgen.inference.tiling.settings import Tiling
from smidgen.structures import Detections, ImageBatch, Preprocessing

_LOGGER = logging.getLogger(__name__)

MOST_DETECTIONS = 300  # of an image that is not tiled

OnUnreadable = Callable[[UnreadableImageError], None]
OnNote = Callable[[str], None]


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
    max_detections: int | None = None,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    tiling: Tiling | None = None,
    guide: Guide | None = None,
    on_unreadable: OnUnreadable | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Detections]:
    """Detections of each image in pixels of that image, best first, in the order of the sources.

    sources: files, folders or glob patterns; only one batch of images is held in memory. Images that cannot be read
    are given to `on_unreadable` (None: logged as a warning) and skipped. Consecutive images share a batch while their
    sizes are alike. max_detections: per image; None is 300, and no limit with `tiling`.
    tiling: look at overlapping tiles, without loading large images whole; `batch_size` is tiles then. guide: look only
    at tiles in which a cheap look from afar sees something. on_note: hears of
    the memory this will take, and of limits that were met (None: logged).
    Raises ValueError for settings out of range, FileNotFoundError for a missing source.
    """
    _check(score, max_detections, batch_size)
    files = image_files(sources)
    if guide is not None and tiling is None:
        raise ValueError("expected tiling where a guide chooses tiles, got none; give tiling, too (--tile)")
    if tiling is not None:
        return predict_tiled(
            model,
            files,
            tiling,
            score=score,
            max_detections=max_detections,
            batch_size=batch_size,
            device=device,
            on_unreadable=on_unreadable or _warn,
            on_note=on_note or _LOGGER.warning,
            choose=None if guide is None else GuidedTiles(model, guide, device),
        )
    model = model.to(device).eval()
    inputs = _readable(files, model_preprocessing(model), on_unreadable or _warn)
    return _detect_all(model, inputs, score, max_detections or MOST_DETECTIONS, batch_size, device)


def model_preprocessing(model: nn.Module) -> Preprocessing:
    """How this model wants its images."""
    config: Any = model.config
    preprocessing: Preprocessing = config.preprocessing
    return preprocessing


def _check(score: float, max_detections: int | None, batch_size: int) -> None:
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"expected a score threshold in [0, 1], got {score}; change --score")
    if (max_detections is not None and max_detections < 1) or batch_size < 1:
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
