"""The same box in other words: corners or center and size, pixels or shares of the image, shares or logits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_convert, clip_boxes_to_image

from smidgen.boxes.precision import full_precision


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 4"]:
    """Center and size to corners; the frame (pixels or shares) stays."""
    boxes_xyxy: Tensor = box_convert(full_precision(boxes_cxcywh), "cxcywh", "xyxy")
    return boxes_xyxy


def xyxy_to_cxcywh(boxes_xyxy: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 4"]:
    """Corners to center and size; the frame (pixels or shares) stays. Crossed corners give negative sizes."""
    boxes_cxcywh: Tensor = box_convert(full_precision(boxes_xyxy), "xyxy", "cxcywh")
    return boxes_cxcywh


def normalized_to_pixels(boxes: Float[Tensor, "*shape 4"], size_hw: tuple[int, int]) -> Float[Tensor, "*shape 4"]:
    """Shares of an image of `size_hw` pixels to pixels; both layouts, since x and y alternate in each."""
    height, width = size_hw
    return _scaled(boxes, float(width), float(height))


def pixels_to_normalized(boxes: Float[Tensor, "*shape 4"], size_hw: tuple[int, int]) -> Float[Tensor, "*shape 4"]:
    """Pixels of an image of `size_hw` pixels to shares of it; both layouts."""
    height, width = size_hw
    return _scaled(boxes, 1 / width, 1 / height)


def clip_to_image(boxes_xyxy: Float[Tensor, "*shape 4"], size_hw: tuple[int, int]) -> Float[Tensor, "*shape 4"]:
    """The part of each box inside an image of `size_hw`, in the unit of the boxes; (1, 1) clips shares."""
    clipped: Tensor = clip_boxes_to_image(full_precision(boxes_xyxy), size_hw)
    return clipped


def inverse_sigmoid(share: Float[Tensor, "*shape"], eps: float = 1e-5) -> Float[Tensor, "*shape"]:
    """Logit of a share in [0, 1], finite at both ends.

    Numerator and denominator are kept above `eps` separately, as all DETR code does, so the result is within
    +-log(1 / eps). 1e-5 is Deformable DETR's value; DINO and its descendants use 1e-3, which cannot tell sizes below
    0.8 px in an image of 800 px apart.
    """
    share = full_precision(share).clamp(min=0, max=1)
    return torch.log(share.clamp(min=eps) / (1 - share).clamp(min=eps))


def _scaled(boxes: Tensor, x_scale: float, y_scale: float) -> Tensor:
    x_first, y_first, x_second, y_second = full_precision(boxes).unbind(-1)
    return torch.stack([x_first * x_scale, y_first * y_scale, x_second * x_scale, y_second * y_scale], dim=-1)
