"""The detector as the server asks it: images ready for the network in, detections in their own pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from smidgen.data.geometry import resize_pixels
from smidgen.inference.loaded_images import model_preprocessing
from smidgen.serving.salience import SalienceMap, salience_maps
from smidgen.structures import Detections, ImageBatch


@dataclass(frozen=True, slots=True)
class Question:
    """One image at the network's size. file: its name as the client gave it."""

    pixels: UInt8[Tensor, "3 h w"]
    original_hw: tuple[int, int]
    file: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """All detections of an image, best first, and where the detector looked (None: it has no such map)."""

    detections: Detections
    salience: SalienceMap | None


class Detecting:
    """Answers questions with `model` on `device`."""

    def __init__(self, model: nn.Module, device: str | torch.device = "cpu") -> None:
        self._model: Any = model.to(device).eval()
        self._device = device
        self._preprocessing = model_preprocessing(model)
        readout = getattr(model, "readout", None) or getattr(getattr(model, "detector", None), "readout", None)
        self._readout = readout if callable(readout) else None  # an exported file's only tells how much it can answer

    def question(self, pixels: UInt8[Tensor, "3 H W"], file: str = "") -> Question:
        """An image resized to what the network takes."""
        height, width = int(pixels.shape[-2]), int(pixels.shape[-1])
        resized = resize_pixels(pixels, self._preprocessing.resized_hw(height, width))
        return Question(resized, (height, width), file)

    def canvas(self, question: Question) -> tuple[int, int]:
        """Height and width in pixels of the padded input; images of one canvas do not change each other's answers."""
        multiple = self._preprocessing.pad_multiple
        height, width = question.pixels.shape[-2:]
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers in the order of the questions, which are of one canvas."""
        images = ImageBatch.collate([one.pixels for one in questions], self._preprocessing.pad_multiple)
        sizes = [one.original_hw for one in questions]
        with torch.inference_mode():
            found, maps = self._detected(images.to(self._device), sizes)
        named = [replace(one, file=asked.file) for one, asked in zip(found, questions, strict=True)]
        return [Answer(detections, salience) for detections, salience in zip(named, maps, strict=True)]

    def _detected(
        self, images: ImageBatch, original_hw: list[tuple[int, int]]
    ) -> tuple[list[Detections], list[SalienceMap | None]]:
        if self._readout is None:  # an exported file, or a detector of somebody's own: its output is not known
            return self._model.detect(images, original_hw), [None] * len(original_hw)
        output = self._model(images)
        found = self._readout(output, original_hw, self._model.classes)
        return found, salience_maps(output, list(images.sizes), original_hw)
