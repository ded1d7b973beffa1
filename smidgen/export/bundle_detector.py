"""A bundle that answers like a model: what predicts and evaluates models takes it, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from smidgen.data.geometry import resize_pixels
from smidgen.export.bundle import Bundle, Canvas, read_bundle
from smidgen.export.sessions import Session, open_session
from smidgen.inference.tiling import Tiling
from smidgen.nn.inference_only import refuse_to_be_saved
from smidgen.structures import Detections, ImageBatch, Preprocessing


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """What inference asks a model's configuration for."""

    preprocessing: Preprocessing


@dataclass(frozen=True, slots=True)
class BundleReadout:
    """What tiled prediction asks a model's readout for: how many detections an answer can have."""

    num_detections: int


class BundleDetector(nn.Module):
    """A detector whose network is an exported file. It computes on the CPU and cannot be trained.

    folder: where the bundle lies. Another process that is sent the detector opens it there; None = it cannot be sent.
    """

    def __init__(self, bundle: Bundle, session: Session, folder: Path | None = None) -> None:
        super().__init__()
        self.bundle, self.session, self.folder = bundle, session, folder
        self.name, self.classes, self.object_sizes = bundle.system, bundle.classes, bundle.object_sizes
        self.preprocessing = fitting(bundle.preprocessing, bundle.canvas)
        self.config = BundleConfig(self.preprocessing)
        self.readout = BundleReadout(bundle.max_detections)
        self.register_state_dict_pre_hook(refuse_to_be_saved)

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        """Best-scoring boxes of each image in pixels of the original image of size `original_hw`."""
        images = on_canvas(images, self.bundle.canvas)
        sizes_hw = np.array(images.sizes, dtype=np.int64)
        answers = self.session(images.pixels.cpu().numpy(), sizes_hw)
        return [
            self._detections([torch.from_numpy(values[index]) for values in answers], size_hw)
            for index, size_hw in enumerate(original_hw)
        ]

    @property
    def tiling(self) -> Tiling | None:
        """The bundle's plan, as `smidgen.predict(..., tiling=...)` takes it; None where images are seen whole."""
        plan = self.bundle.tiling
        return None if plan is None else Tiling(tile_px=plan.tile_px, overlap=plan.overlap)

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """What holds the network's numbers: the file of its runtime, and what lies beside it under the same name."""
        return () if self.folder is None else tuple(sorted(self.folder.glob(f"{Path(self.bundle.file).stem}.*")))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is None:
            raise TypeError("its file was never given a folder")
        return load_bundle, (self.folder,)

    def _detections(self, answer: Sequence[Tensor], original_hw: tuple[int, int]) -> Detections:
        boxes, scores, labels, valid = answer
        scale = boxes.new_tensor([original_hw[1], original_hw[0]]).repeat(2)
        return Detections(
            boxes[valid] * scale,
            scores[valid],
            labels[valid],
            (original_hw[0], original_hw[1]),
            class_names=self.classes.names,
            category_ids=self.classes.ids,
        )


def load_bundle(path: Path | str) -> BundleDetector:
    """The detector of a bundle's folder. Errors: ValueError where the bundle is damaged or its runtime is missing."""
    bundle, path = read_bundle(path), Path(path)
    folder = (path if path.is_dir() else path.parent).absolute()
    return BundleDetector(bundle, open_session(folder / bundle.file, bundle.runtime), folder).eval()


def fitting(preprocessing: Preprocessing, canvas: Canvas) -> Preprocessing:
    """The rule by which images are resized to a fixed canvas at once; those of the other orientation than the canvas
    are shrunk by `on_canvas` afterwards. What is resized twice is blurred.
    """
    if canvas.fixed_hw is None:
        return preprocessing
    short, long = sorted(canvas.fixed_hw)
    return replace(
        preprocessing, short_side=min(preprocessing.short_side, short), long_side=min(preprocessing.long_side, long)
    )


def on_canvas(images: ImageBatch, canvas: Canvas) -> ImageBatch:
    """The batch on a canvas that the file takes; images that are too large for a fixed one are shrunk."""
    fixed = canvas.fixed_hw
    if fixed is None:
        return _padded_to(images, canvas.least_hw)
    if any(height > fixed[0] or width > fixed[1] for height, width in images.sizes):
        pictures = [images.pixels[index, :, :height, :width] for index, (height, width) in enumerate(images.sizes)]
        images = ImageBatch.collate([_shrunk(picture, fixed) for picture in pictures])
    height, width = min(images.pixels.shape[2], fixed[0]), min(images.pixels.shape[3], fixed[1])
    cut = ImageBatch(images.pixels[:, :, :height, :width], images.padding[:, :height, :width], images.sizes)
    return _padded_to(cut, fixed)


def _shrunk(picture: Tensor, fixed_hw: tuple[int, int]) -> Tensor:
    height, width = picture.shape[1:]
    ratio = min(1.0, fixed_hw[0] / height, fixed_hw[1] / width)
    return resize_pixels(picture, (max(1, int(height * ratio + 1e-9)), max(1, int(width * ratio + 1e-9))))


def _padded_to(images: ImageBatch, least_hw: tuple[int, int]) -> ImageBatch:
    missing = (0, max(0, least_hw[1] - images.pixels.shape[3]), 0, max(0, least_hw[0] - images.pixels.shape[2]))
    pixels = nn.functional.pad(images.pixels, missing)
    return ImageBatch(pixels, nn.functional.pad(images.padding, missing, value=True), images.sizes)
