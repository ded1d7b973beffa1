"""Detections of images in memory, wherever they came from: files, object stores, videos, cameras."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from smidgen.data.geometry import resize_pixels
from smidgen.inference.batching import batches_of_like_sizes
from smidgen.structures import Detections, ImageBatch, Preprocessing

MOST_DETECTIONS = 300  # of an image that is not tiled


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """name: what the detections shall call it. pixels: RGB, 0..255."""

    name: str
    pixels: UInt8[Tensor, "3 H W"]


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """What changes the answers: the lowest score kept, and the most detections per image."""

    score: float = 0.3
    max_detections: int = MOST_DETECTIONS

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"expected a score threshold in [0, 1], got {self.score}; change --score")
        if self.max_detections < 1:
            raise ValueError(f"expected at least 1 detection per image, got --max-detections {self.max_detections}")


@dataclass(frozen=True, slots=True)
class _Resized:
    """An image at the network's size; its own pixels, which may be many more, are not held."""

    name: str
    pixels: UInt8[Tensor, "3 h w"]
    original_hw: tuple[int, int]


def model_preprocessing(model: nn.Module) -> Preprocessing:
    """How this model wants its images."""
    config: Any = model.config
    preprocessing: Preprocessing = config.preprocessing
    return preprocessing


def detect_loaded(
    model: nn.Module,
    images: Iterable[LoadedImage],
    settings: DetectionSettings,
    *,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
) -> Iterator[Detections]:
    """Detections of each image in its own pixels, best first, in the order given and called by the image's name.

    One batch is held in memory; consecutive images share one while their sizes are alike. model: in evaluation mode,
    on `device`.
    """
    preprocessing = model_preprocessing(model)
    resized = (_resized(image, preprocessing) for image in images)
    for batch in batches_of_like_sizes(resized, batch_size):
        canvas = ImageBatch.collate([one.pixels for one in batch], preprocessing.pad_multiple).to(device)
        with torch.inference_mode():
            answers = model.detect(canvas, [one.original_hw for one in batch])  # type: ignore[operator]
        for one, detections in zip(batch, answers, strict=True):
            chosen = detections.above(settings.score)[: settings.max_detections]
            yield replace(chosen, file=one.name, image_id=one.name)


def _resized(image: LoadedImage, preprocessing: Preprocessing) -> _Resized:
    height, width = int(image.pixels.shape[-2]), int(image.pixels.shape[-1])
    pixels = resize_pixels(image.pixels, preprocessing.resized_hw(height, width))
    return _Resized(image.name, pixels, (height, width))
