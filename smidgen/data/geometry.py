"""Flips, turns, resizing and cutting of an image together with its boxes (torchvision's v2 functions where they exist).

Coordinates are continuous: a pixel column x spans [x, x + 1], so a flip maps x to width - x. No box is dropped for
being small: only what has no area left goes, and it is counted in `Sample.vanished` unless it lies outside a cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxFormat

from smidgen.data.sample import Sample, has_area


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int


def flip_horizontally(sample: Sample) -> Sample:
    """Mirror left and right."""
    size = sample.size_hw
    return replace(
        sample,
        image=F.horizontal_flip(sample.image),
        boxes_xyxy=F.horizontal_flip_bounding_boxes(sample.boxes_xyxy, BoundingBoxFormat.XYXY, size),
        ignore_xyxy=F.horizontal_flip_bounding_boxes(sample.ignore_xyxy, BoundingBoxFormat.XYXY, size),
    )


def flip_vertically(sample: Sample) -> Sample:
    """Mirror top and bottom."""
    size = sample.size_hw
    return replace(
        sample,
        image=F.vertical_flip(sample.image),
        boxes_xyxy=F.vertical_flip_bounding_boxes(sample.boxes_xyxy, BoundingBoxFormat.XYXY, size),
        ignore_xyxy=F.vertical_flip_bounding_boxes(sample.ignore_xyxy, BoundingBoxFormat.XYXY, size),
    )


def turn(sample: Sample, quarters: int) -> Sample:
    """Turn counterclockwise by a number of quarter turns; exact, without resampling."""
    for _ in range(quarters % 4):
        width = sample.size_hw[1]
        sample = replace(
            sample,
            image=torch.rot90(sample.image, 1, (-2, -1)),
            boxes_xyxy=_turn_boxes(sample.boxes_xyxy, width),
            ignore_xyxy=_turn_boxes(sample.ignore_xyxy, width),
        )
    return sample


def resize(sample: Sample, size_hw: tuple[int, int]) -> Sample:
    """Resize to exactly this size (bilinear, antialiased, uint8); boxes keep their normalized coordinates."""
    before = sample.size_hw
    resized = replace(
        sample,
        image=resize_pixels(sample.image, size_hw),
        boxes_xyxy=_scale_boxes(sample.boxes_xyxy, before, size_hw),
        ignore_xyxy=_scale_boxes(sample.ignore_xyxy, before, size_hw),
    )
    return _without_vanished(resized)


def resize_pixels(image: UInt8[Tensor, "3 H W"], size_hw: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    """Bilinear with antialiasing, rounded to uint8."""
    if size_hw[1] > 1:
        resized: Tensor = F.resize(image, list(size_hw), antialias=True)
    else:
        # torch's uint8 kernel gives wrong values or aborts where the result is 1 px wide (seen in 2.15).
        resized = F.resize(image.float(), list(size_hw), antialias=True).round().to(torch.uint8)
    return resized


def cut(sample: Sample, window: Window, visibility: float = 0.0) -> Sample:
    """The part inside the window. Boxes are clipped; those that keep less than `visibility` of their area become ignore
    regions; those outside are gone."""
    boxes = _clip_to_window(sample.boxes_xyxy, window)
    regions = _clip_to_window(sample.ignore_xyxy, window)
    inside = has_area(boxes)
    share = _areas(boxes) / _areas(sample.boxes_xyxy).clamp(min=torch.finfo(torch.float32).tiny)
    recognizable = share >= visibility
    return replace(
        sample,
        image=F.crop(sample.image, window.top, window.left, window.height, window.width),
        boxes_xyxy=boxes[inside & recognizable],
        labels=sample.labels[inside & recognizable],
        ignore_xyxy=torch.cat([regions[has_area(regions)], boxes[inside & ~recognizable]]),
    )


def shift(sample: Sample, top: int, left: int) -> Sample:
    """The same pixels with boxes in the frame of a canvas on which the image lies at (top, left)."""
    offset = sample.boxes_xyxy.new_tensor([left, top, left, top])
    return replace(sample, boxes_xyxy=sample.boxes_xyxy + offset, ignore_xyxy=sample.ignore_xyxy + offset)


def _turn_boxes(boxes_xyxy: Float[Tensor, "M 4"], width: int) -> Float[Tensor, "M 4"]:
    """(x, y) goes to (y, width - x)."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(1)
    return torch.stack([y0, width - x1, y1, width - x0], dim=1)


def _scale_boxes(
    boxes_xyxy: Float[Tensor, "M 4"], before_hw: tuple[int, int], after_hw: tuple[int, int]
) -> Float[Tensor, "M 4"]:
    scaled, _ = F.resize_bounding_boxes(boxes_xyxy, before_hw, list(after_hw))
    # The ratio's rounding may carry a border box a hair outside.
    return torch.minimum(scaled, scaled.new_tensor([after_hw[1], after_hw[0]] * 2))


def _without_vanished(sample: Sample) -> Sample:
    keep = has_area(sample.boxes_xyxy)
    lost = int((~keep).sum())
    sample = replace(sample, ignore_xyxy=sample.ignore_xyxy[has_area(sample.ignore_xyxy)])
    return replace(sample.with_boxes(keep), vanished=sample.vanished + lost) if lost else sample


def _clip_to_window(boxes_xyxy: Float[Tensor, "M 4"], window: Window) -> Float[Tensor, "M 4"]:
    shifted = boxes_xyxy - boxes_xyxy.new_tensor([window.left, window.top] * 2)
    limits = boxes_xyxy.new_tensor([window.width, window.height] * 2)
    return torch.minimum(shifted.clamp(min=0), limits)


def _areas(boxes_xyxy: Float[Tensor, "M 4"]) -> Float[Tensor, " M"]:
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return sides[:, 0] * sides[:, 1]
