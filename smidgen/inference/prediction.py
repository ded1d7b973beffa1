"""Detections for any number of images: read, resize, detect, one batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from smidgen.data import UnreadableImageError, read_image
from smidgen.inference.guided_tiling import Guide, GuidedTiles, tile_chooser
from smidgen.inference.loaded_images import MOST_DETECTIONS, DetectionSettings, LoadedImage, detect_loaded
from smidgen.inference.sources import Source, image_files
from smidgen.inference.tiling.prediction import predict_tiled
from smidgen.inference.tiling.settings import Tiling
from smidgen.structures import Detections

_LOGGER = logging.getLogger(__name__)

OnUnreadable = Callable[[UnreadableImageError], None]
OnNote = Callable[[str], None]


def predict(
    model: nn.Module,
    sources: Source | Iterable[Source],
    *,
    score: float = 0.3,
    max_detections: int | None = None,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    tiling: Tiling | None = None,
    guide: Guide | GuidedTiles | None = None,
    on_unreadable: OnUnreadable | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Detections]:
    """Detections of each image in pixels of that image, best first, in the order of the sources.

    sources: files, folders or glob patterns; only one batch of images is held in memory. Images that cannot be read
    are given to `on_unreadable` (None: logged as a warning) and skipped. Consecutive images share a batch while their
    sizes are alike. max_detections: per image; None is 300, and no limit with `tiling`.
    tiling: look at overlapping tiles, without loading large images whole; `batch_size` is tiles then. guide: look only
    at tiles in which a cheap look from afar sees something; `GuidedTiles` counts them, too. on_note: hears of the
    memory this will take, and of limits that were met (None: logged).
    Raises ValueError for settings out of range, FileNotFoundError for a missing source.
    """
    settings = DetectionSettings(score, MOST_DETECTIONS if max_detections is None else max_detections)
    if batch_size < 1:
        raise ValueError(f"expected at least 1 image per batch, got --batch-size {batch_size}")
    files = image_files(sources)
    choose = tile_chooser(model, guide, tiling, device)
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
            choose=choose,
        )
    model = model.to(device).eval()
    images = _readable(files, on_unreadable or _warn)
    return detect_loaded(model, images, settings, batch_size=batch_size, device=device)


def _warn(error: UnreadableImageError) -> None:
    _LOGGER.warning("skipped: %s", error)


def _readable(files: Iterable[Path], on_unreadable: OnUnreadable) -> Iterator[LoadedImage]:
    for file in files:
        try:
            pixels = read_image(file)
        except UnreadableImageError as error:
            on_unreadable(error)
            continue
        yield LoadedImage(str(file), pixels)
