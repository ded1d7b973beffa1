"""An ideal detector for tests: every connected patch of bright pixels, as far as it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from scipy import ndimage
from torch import nn

from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing


class BrightBlobs(nn.Module):
    """Boxes around connected pixels brighter than 128; the score is 0.9. Inputs of `side` px are not resized."""

    def __init__(self, side: int, num_detections: int | None = None) -> None:
        super().__init__()
        self.config = SimpleNamespace(preprocessing=Preprocessing(short_side=side, long_side=side))
        self.readout = SimpleNamespace(num_detections=num_detections)
        self.classes = Classes(("blob",), (4,))
        self.batch_sizes: list[int] = []

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        self.batch_sizes.append(len(images))
        return [self._one(images, index, size_hw) for index, size_hw in enumerate(original_hw)]

    def _one(self, images: ImageBatch, index: int, size_hw: tuple[int, int]) -> Detections:
        height, width = images.sizes[index]
        patches, _ = ndimage.label((images.pixels[index, 0, :height, :width] > 128).numpy())
        found = [
            (columns.start, rows.start, columns.stop, rows.stop) for rows, columns in ndimage.find_objects(patches)
        ]
        scale = torch.tensor([size_hw[1] / width, size_hw[0] / height] * 2)
        boxes = (torch.tensor(found, dtype=torch.float32).reshape(-1, 4) * scale)[: self.readout.num_detections]
        return Detections(boxes, torch.full((len(boxes),), 0.9), torch.zeros(len(boxes), dtype=torch.int64), size_hw)
