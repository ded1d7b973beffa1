"""A batch of images on one canvas: pixels, what of them is padding, and the size of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Num
from torch import Tensor

from smidgen.structures.preprocessing import Preprocessing
from smidgen.structures.transfer import send


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Images of possibly different sizes in the top left corner of one canvas.

    pixels: uint8 in 0..255 as they come from disk, or floating once normalized (then zero in the padding).
    padding: True where the canvas shows no image.
    sizes: (height, width) of each image in network-input pixels, without padding.
    """

    pixels: Num[Tensor, "B 3 H W"]
    padding: Bool[Tensor, "B H W"]
    sizes: tuple[tuple[int, int], ...]

    @staticmethod
    def collate(images: Sequence[Num[Tensor, "3 _ _"]], pad_multiple: int = 1) -> ImageBatch:
        """Pad the images right and below with zeros to a common canvas whose sides are multiples of `pad_multiple`."""
        if not images:
            raise ValueError("expected at least one image to make a batch, got none")
        sizes = tuple((int(image.shape[-2]), int(image.shape[-1])) for image in images)
        height, width = (-(-max(side) // pad_multiple) * pad_multiple for side in zip(*sizes, strict=True))
        pixels = images[0].new_zeros((len(images), 3, height, width))
        padding = torch.ones((len(images), height, width), dtype=torch.bool, device=pixels.device)
        for index, (image, (rows, columns)) in enumerate(zip(images, sizes, strict=True)):
            pixels[index, :, :rows, :columns] = image
            padding[index, :rows, :columns] = False
        return ImageBatch(pixels, padding, sizes)

    def normalized(self, preprocessing: Preprocessing) -> ImageBatch:
        """Scale uint8 pixels to [0, 1], apply mean, std and channel order; zero the padding. Floating pixels pass."""
        if self.pixels.is_floating_point():
            return self
        pixels = self.pixels if preprocessing.channel_order == "rgb" else self.pixels.flip(1)
        statistics = torch.tensor([preprocessing.mean, preprocessing.std]) * 255
        mean, std = send(statistics, pixels.device)[..., None, None]
        return replace(self, pixels=(pixels - mean).div_(std).masked_fill_(self.padding[:, None], 0.0))

    def to(self, device: torch.device | str) -> ImageBatch:
        """The same batch on another device, by `send`."""
        return replace(self, pixels=send(self.pixels, device), padding=send(self.padding, device))

    def pin_memory(self) -> ImageBatch:
        """The same batch in memory that a GPU can read by itself."""
        return replace(self, pixels=self.pixels.pin_memory(), padding=self.padding.pin_memory())

    def __len__(self) -> int:
        return len(self.sizes)
