"""Predictions of the last layer to detections in pixels of the original image, without suppression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from smidgen.structures import Classes, Detections, DetectorOutput


class TopScoring(nn.Module):
    """The `num_detections` best (query, class) pairs of each image, best first (Deformable DETR's post-processing).

    num_detections: None = as many as the batch has query rows (DQ-DETR's and LSQ-DETR's code). clip: cut boxes at the
    image's border (the official codes do not).
    """

    def __init__(self, num_detections: int | None = 300, clip: bool = True) -> None:
        super().__init__()
        self.num_detections, self.clip = num_detections, clip

    def forward(
        self, output: DetectorOutput, original_hw: Sequence[tuple[int, int]], classes: Classes
    ) -> list[Detections]:
        """One `Detections` per image; rows that do not exist are left out."""
        final = output.final
        scores = final.logits.float().sigmoid()
        if final.padding is not None:
            scores = scores.masked_fill(final.padding[..., None], -1.0)
        num_rows, num_classes = scores.shape[1:]
        wanted = num_rows if self.num_detections is None else self.num_detections
        best, index = scores.flatten(1).topk(min(wanted, num_rows * num_classes), dim=1)
        rows = (index // num_classes)[..., None].expand(-1, -1, 4)
        center, size = final.boxes_cxcywh.float().gather(1, rows).chunk(2, dim=-1)
        boxes = torch.cat([center - size / 2, center + size / 2], dim=-1)
        scale = boxes.new_tensor([[width, height, width, height] for height, width in original_hw])
        boxes = boxes * scale[:, None]
        if self.clip:
            boxes = torch.minimum(boxes.clamp(min=0), scale[:, None])
        labels = index % num_classes
        return [
            Detections(
                boxes[image][exists],
                best[image][exists],
                labels[image][exists],
                (size_hw[0], size_hw[1]),
                class_names=classes.names,
                category_ids=classes.ids,
            )
            for image, (exists, size_hw) in enumerate(zip(best >= 0, original_hw, strict=True))
        ]
