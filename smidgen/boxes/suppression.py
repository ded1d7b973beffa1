"""Class-wise non-maximum suppression of a whole batch as one operator of fixed shape.

torchvision's `nms` returns as many indices as survive; this one says of every row whether it does, so that exporters
see one operator whose shape no value decides (smidgen/export translates it).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op(
    "smidgen::suppress",
    mutates_args=(),
    schema="(Tensor boxes_xyxy, Tensor scores, Tensor labels, int num_classes, float iou_threshold) -> Tensor",
)
def suppress(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, num_classes: int, iou_threshold: float) -> Tensor:
    """True ("B M") at rows that no better row of their class and image overlaps by more than `iou_threshold`.

    boxes_xyxy: "B M 4". scores: "B M"; a row with a negative score takes no part and is False. labels: "B M", from 0 to
    num_classes - 1.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image, of_image in enumerate(labels):
        for label in range(num_classes):
            rows = ((of_image == label) & (scores[image] >= 0)).nonzero()[:, 0]
            kept[image, rows[nms(boxes_xyxy[image, rows], scores[image, rows], iou_threshold)]] = True
    return kept


@suppress.register_fake
def _(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, num_classes: int, iou_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)
