"""Images of bright squares on black, and an ideal detector of those that are large enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from smidgen.data import DetectionDataset, Record
from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing

HEIGHT, WIDTH, CELL = 96, 128, 32
CLASSES = Classes(("red", "blue"), (4, 9))
CHANNEL = (0, 2)


class SharpEye(nn.Module):
    """Finds exactly the squares of at least `least_side` pixels at the network's input, however large the image is.

    only_whole: sees nothing on images that do not fill the canvas.
    """

    def __init__(self, least_side: float, classes: Classes = CLASSES, only_whole: bool = False) -> None:
        super().__init__()
        self.least_side, self.only_whole, self.classes = least_side, only_whole, classes
        self.config = SimpleNamespace(preprocessing=Preprocessing(short_side=HEIGHT, long_side=WIDTH))
        self.canvases: set[tuple[int, ...]] = set()

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        self.canvases.add(tuple(images.pixels.shape[-2:]))
        return [self._seen(pixels, hw) for pixels, hw in zip(images.pixels, original_hw, strict=True)]

    def _seen(self, pixels: torch.Tensor, hw: tuple[int, int]) -> Detections:
        names = [CLASSES.names.index(name) for name in self.classes.names]
        found = [squares(pixels[CHANNEL[channel]].numpy()) for channel in names]
        boxes = torch.tensor(np.concatenate(found), dtype=torch.float32)
        labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(found)]).long()
        keep = boxes[:, 2] - boxes[:, 0] >= self.least_side
        keep &= not (self.only_whole and hw != (HEIGHT, WIDTH))
        return Detections(boxes[keep], torch.full((int(keep.sum()),), 0.9), labels[keep], hw)


def squares(channel: np.ndarray) -> np.ndarray:
    """Boxes xyxy of bright squares; area and center are sums over pixels, which shrinking by area average keeps."""
    islands, number = ndimage.label(channel)
    index = np.arange(1, number + 1)
    side = np.sqrt(ndimage.sum(channel / 255, islands, index)).reshape(-1, 1) if number else np.zeros((0, 1))
    center_yx = np.array(ndimage.center_of_mass(channel.astype(float), islands, index)).reshape(-1, 2) + 0.5
    return np.concatenate([center_yx[:, ::-1] - side / 2, center_yx[:, ::-1] + side / 2], axis=1)


def square_scenes(folder: Path, images: int = 6, seed: int = 0) -> DetectionDataset:
    """Each image with 12 squares of 4 to 24 px, written to `folder`."""
    rng = np.random.default_rng(seed)
    return DetectionDataset(
        folder, "squares", "val", CLASSES, tuple(_scene(folder, number, rng) for number in range(images))
    )


def _scene(folder: Path, number: int, rng: np.random.Generator) -> Record:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    boxes, labels = [], []
    for top in range(4, HEIGHT, CELL):
        for left in range(4, WIDTH, CELL):
            side, label = int(rng.integers(4, 25)), int(rng.integers(2))
            pixels[top : top + side, left : left + side, CHANNEL[label]] = 255
            boxes.append([left, top, left + side, top + side])
            labels.append(label)
    file = folder / f"{number}.png"
    Image.fromarray(pixels).save(file)
    nowhere = np.zeros((0, 4), np.float32)
    return Record(file, number, (HEIGHT, WIDTH), np.array(boxes, np.float32), np.array(labels, np.int64), nowhere)
