"""A detector that finds bright pixels' bounding box: quick, and right or wrong for reasons a test can state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing


@dataclass(frozen=True)
class BrightSpotConfig:
    num_classes: int = 2
    num_queries: int = 2
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(short_side=32, long_side=64))


class BrightSpot(nn.Module):
    """The box around everything brighter than 128 (score 0.9, class 1), and the whole image (score 0.2, class 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.config = BrightSpotConfig()
        self.classes = Classes(("frame", "spot"), (3, 7))
        self.batch_sizes: list[int] = []

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        self.batch_sizes.append(len(images))
        return [self._one(images, index, hw) for index, hw in enumerate(original_hw)]

    def _one(self, images: ImageBatch, index: int, original_hw: tuple[int, int]) -> Detections:
        height, width = images.sizes[index]
        rows, columns = torch.nonzero(images.pixels[index, 0, :height, :width] > 128, as_tuple=True)
        scale_y, scale_x = original_hw[0] / height, original_hw[1] / width
        whole = [0.0, 0.0, float(original_hw[1]), float(original_hw[0])]
        boxes, scores, labels = [whole], [0.2], [0]
        if len(rows):
            spot = [
                columns.min() * scale_x,
                rows.min() * scale_y,
                (columns.max() + 1) * scale_x,
                (rows.max() + 1) * scale_y,
            ]
            boxes, scores, labels = [spot, whole], [0.9, 0.2], [1, 0]
        return Detections(
            boxes_xyxy=torch.tensor(boxes),
            scores=torch.tensor(scores),
            labels=torch.tensor(labels),
            image_hw=original_hw,
            class_names=self.classes.names,
            category_ids=self.classes.ids,
        )


@pytest.fixture
def bright_spot() -> BrightSpot:
    return BrightSpot()


@pytest.fixture
def spot_image(tmp_path: Path) -> Path:
    """64 x 32 px, black, with a white rectangle from (16, 8) to (32, 16)."""
    return write_spot(tmp_path / "spot.png")


def write_spot(
    file: Path, size_wh: tuple[int, int] = (64, 32), box: tuple[int, int, int, int] = (16, 8, 32, 16)
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size_wh)
    picture.paste((255, 255, 255), box)
    picture.save(file)
    return file
