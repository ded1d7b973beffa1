"""One image with its objects on the way through augmentation: uint8 pixels, boxes in pixels of that image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from smidgen.data.dataset import Record
from smidgen.data.image_files import UnreadableImageError, read_image
from smidgen.structures import Target


@dataclass(frozen=True, slots=True)
class Sample:
    """boxes_xyxy, ignore_xyxy: pixels of `image`, inside it. original_hw: size of the image on disk.
    vanished: boxes that lost all area to rounding so far. Of several combined images the first gives id and size.
    """

    image: UInt8[Tensor, "3 H W"]
    boxes_xyxy: Float[Tensor, "M 4"]
    labels: Int[Tensor, " M"]
    ignore_xyxy: Float[Tensor, "R 4"]
    image_id: int | str
    original_hw: tuple[int, int]
    vanished: int = 0

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    def with_boxes(self, keep: Bool[Tensor, " M"]) -> Sample:
        """Only these objects."""
        return replace(self, boxes_xyxy=self.boxes_xyxy[keep], labels=self.labels[keep])

    def target(self) -> Target:
        """The truth as the network sees it."""
        return Target.of(
            self.boxes_xyxy,
            self.labels,
            self.size_hw,
            original_hw=self.original_hw,
            image_id=self.image_id,
            ignore=self.ignore_xyxy,
        )


def load_sample(record: Record) -> Sample:
    """The image and its objects as they are on disk. Raises UnreadableImageError."""
    return sample_of(record, read_annotated(record))


def read_annotated(record: Record) -> UInt8[Tensor, "3 H W"]:
    """The pixels of the size that the annotations were made on. Raises UnreadableImageError for any other, too."""
    image = read_image(record.file, record.size_hw)
    require_annotated_size(record, (int(image.shape[-2]), int(image.shape[-1])))
    return image


def require_annotated_size(record: Record, size_hw: tuple[int, int]) -> None:
    """Raises UnreadableImageError where the image's size is not the one that the annotations were made on."""
    if size_hw != record.size_hw:
        (height, width), stated = size_hw, f"{record.size_hw[1]} x {record.size_hw[0]}"
        reason = f"it is {width} x {height} px, but its annotations say {stated}; mend the annotations"
        raise UnreadableImageError(record.file, reason)


def sample_of(record: Record, image: UInt8[Tensor, "3 H W"]) -> Sample:
    """The pixels with the record's objects, which are in the pixels' frame."""
    return Sample(
        image,
        torch.tensor(record.boxes_xyxy, dtype=torch.float32),
        torch.tensor(record.labels, dtype=torch.int64),
        torch.tensor(record.ignore_xyxy, dtype=torch.float32),
        record.image_id,
        record.size_hw,
    )


def has_area(boxes_xyxy: Float[Tensor, "M 4"]) -> Bool[Tensor, " M"]:
    """True for boxes that are wider and higher than nothing, however small."""
    return (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(dim=1)
