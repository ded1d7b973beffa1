"""Input truth: the objects of one image as the network sees it, and assignments of predictions to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.structures.transfer import send


@dataclass(frozen=True, slots=True)
class Target:
    """The labeled objects of one image.

    boxes_xyxy: pixels of the network input, without padding.
    labels: contiguous class indices 0..K-1.
    size_hw: real network-input size of this image in pixels (scale weights and normalization need it).
    original_hw: size of the image on disk in pixels.
    image_id: the dataset's id.
    ignore: regions (crowds, ignore areas) in the frame of `boxes_xyxy`, neither trained on nor counted as background.
    """

    boxes_xyxy: Float[Tensor, "M 4"]
    labels: Int[Tensor, " M"]
    size_hw: tuple[int, int]
    original_hw: tuple[int, int]
    image_id: int | str
    ignore: Float[Tensor, "R 4"]

    @staticmethod
    def of(
        boxes_xyxy: Float[Tensor, "M 4"],
        labels: Int[Tensor, " M"],
        size_hw: tuple[int, int],
        *,
        original_hw: tuple[int, int] | None = None,
        image_id: int | str = 0,
        ignore: Float[Tensor, "R 4"] | None = None,
    ) -> Target:
        """A target whose optional parts are left out: original size = input size, no ignore regions."""
        if boxes_xyxy.ndim != 2 or boxes_xyxy.shape[-1] != 4 or len(boxes_xyxy) != len(labels):
            raise ValueError(
                f"expected M x 4 boxes and M labels, got {tuple(boxes_xyxy.shape)} and {tuple(labels.shape)}"
            )
        ignore = boxes_xyxy.new_zeros((0, 4)) if ignore is None else ignore
        return Target(boxes_xyxy, labels, size_hw, original_hw or size_hw, image_id, ignore)

    @property
    def boxes_cxcywh(self) -> Float[Tensor, "M 4"]:
        """Boxes as DETR stages use them: center and size in [0, 1] of the image without its padding."""
        return _normalized_cxcywh(self.boxes_xyxy, self.size_hw)

    @property
    def ignore_cxcywh(self) -> Float[Tensor, "R 4"]:
        """Ignore regions in the frame of `boxes_cxcywh`."""
        return _normalized_cxcywh(self.ignore, self.size_hw)

    def to(self, device: torch.device | str) -> Target:
        """The same target on another device, by `send`."""
        boxes, labels, ignore = (send(each, device) for each in (self.boxes_xyxy, self.labels, self.ignore))
        return replace(self, boxes_xyxy=boxes, labels=labels, ignore=ignore)

    def pin_memory(self) -> Target:
        """The same target in memory that a GPU can read by itself."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy.pin_memory(),
            labels=self.labels.pin_memory(),
            ignore=self.ignore.pin_memory(),
        )

    def __len__(self) -> int:
        return self.labels.shape[0]


def _normalized_cxcywh(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    height, width = size_hw
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return torch.stack([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height], dim=-1)


@dataclass(frozen=True, slots=True)
class Matches:
    """Which prediction answers for which object: M pairs over a whole batch.

    image: index of the image in the batch; query: index of the prediction; target: index of the object in its image.
    """

    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    target: Int[Tensor, " M"]

    def flat_target(self, targets: Sequence[Target]) -> Int[Tensor, " M"]:
        """Index of each pair's object in the concatenation of all images' objects."""
        starts = [0]
        for target in targets[:-1]:
            starts.append(starts[-1] + len(target))
        return send(torch.tensor(starts), self.image.device)[self.image] + self.target

    def __len__(self) -> int:
        return self.image.shape[0]
