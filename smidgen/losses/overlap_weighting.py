"""Of several queries that answer for one object, the better placed ones learn more of its box.

PaQ-DETR, CVPR 2026 (arXiv 2603.06917), takes the box losses of all positives as they are; its text leaves room for
weighing each by its overlap, as class targets are in the varifocal loss. A pair that does not overlap then learns
nothing of the box, so this is for layers that are matched one to many only: the last layer would never begin to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.boxes import aligned_iou, cxcywh_to_xyxy
from smidgen.boxes.matched_pairs import predicted_boxes
from smidgen.structures import SupervisedSet


@dataclass(frozen=True, kw_only=True)
class OverlapWeighting:
    """A `PairWeighting`: the pair's IoU, without gradient, in `sets`; 1 in others.

    sets: names of supervised sets ("auxiliary" ...). also: another weighting, multiplied on in every set.
    """

    sets: tuple[str, ...]
    also: Callable[[SupervisedSet, Tensor, float], Tensor] | None = None

    @torch.no_grad()
    def __call__(
        self, supervised: SupervisedSet, boxes_cxcywh: Float[Tensor, "M 4"], progress: float
    ) -> Float[Tensor, " M"]:
        """One factor per pair; boxes_cxcywh: of their objects."""
        factor = boxes_cxcywh.new_ones(len(boxes_cxcywh))
        if supervised.name in self.sets:
            factor = aligned_iou(cxcywh_to_xyxy(predicted_boxes(supervised)), cxcywh_to_xyxy(boxes_cxcywh))
        return factor if self.also is None else factor * self.also(supervised, boxes_cxcywh, progress)
