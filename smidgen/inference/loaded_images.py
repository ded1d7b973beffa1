"""Detections of images that are in memory already, wherever they came from: an object store, a video, a camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from smidgen.data.geometry import resize_pixels
from smidgen.inference.batching import batches_of_like_sizes
from smidgen.inference.prediction import model_preprocessing
from smidgen.structures import Detections, ImageBatch


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """name: what the detections shall call it. pixels: RGB, 0..255."""

    name: str
    pixels: UInt8[Tensor, "3 H W"]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """What changes the answers: the lowest score kept, and the most detections per image."""

    score: float = 0.3
    max_detections: int = 300

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"expected a score threshold in [0, 1], got {self.score}; change --score")
        if self.max_detections < 1:
            raise ValueError(f"expected at least 1 detection per image, got {self.max_detections}; use a larger one")


@dataclass(frozen=True, slots=True)
class _Resized:
    """An image at the network's size; `batches_of_like_sizes` looks at the pixels."""

    image: LoadedImage
    pixels: UInt8[Tensor, "3 h w"]


def detect_loaded(
    model: nn.Module,
    images: Iterable[LoadedImage],
    settings: DetectionSettings,
    *,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[LoadedImage, Detections]]:
    """Each image with its detections in its own pixels, best first, in the order given; one batch is held in memory.

    model: in evaluation mode, on `device`.
    """
    preprocessing = model_preprocessing(model)
    sizes = ((image, preprocessing.resized_hw(*image.size_hw)) for image in images)
    resized = (_Resized(image, resize_pixels(image.pixels, size_hw)) for image, size_hw in sizes)
    for batch in batches_of_like_sizes(resized, batch_size):
        canvas = ImageBatch.collate([one.pixels for one in batch], preprocessing.pad_multiple).to(device)
        with torch.inference_mode():
            answers = model.detect(canvas, [one.image.size_hw for one in batch])  # type: ignore[operator]
        for one, detections in zip(batch, answers, strict=True):
            chosen = detections.above(settings.score)[: settings.max_detections]
            yield one.image, replace(chosen, file=one.image.name, image_id=one.image.name)
