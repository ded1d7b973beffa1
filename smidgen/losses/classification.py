"""How wrong the class scores are: matched queries should say their object's class, all others nothing.

Which queries are left out: see smidgen/boxes/counted_queries.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from smidgen.boxes import aligned_iou, cxcywh_to_xyxy
from smidgen.boxes.counted_queries import at_matched_class, counted_logits, counted_queries
from smidgen.boxes.matched_pairs import predicted_boxes, target_boxes
from smidgen.structures import SupervisedSet


@dataclass(frozen=True, kw_only=True)
class FocalClassification:
    """Focal loss with hard targets, named "classification".

    Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 5: alpha (for positives) 0.25, gamma 2.
    ignore_overlap: share of an unmatched query's box inside an ignore region from which on it is left out.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    ignore_overlap: float = 0.5

    def __call__(self, supervised: SupervisedSet, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Summed over queries and classes, divided by the set's normalizer."""
        counted = counted_queries(supervised, self.ignore_overlap)
        logits = counted_logits(supervised, counted)
        positive = at_matched_class(supervised, logits, 1.0)
        loss: Tensor = sigmoid_focal_loss(logits, positive, self.alpha, self.gamma)
        return {"classification": (loss * counted[..., None]).sum() / supervised.normalizer}


@dataclass(frozen=True, kw_only=True)
class VarifocalClassification:
    """Focal loss whose positives should say the IoU of their box, named "classification".

    Zhang et al., "VarifocalNet", 2021, equation 2, in the form of Salience DETR and PaQ-DETR: positives weigh their
    IoU, negatives alpha p^gamma. alpha: 0.75. iou_eps: as in `smidgen.boxes.aligned_iou`. ignore_overlap: as in
    `FocalClassification`.
    """

    alpha: float = 0.75
    gamma: float = 2.0
    iou_eps: float = 0.0
    ignore_overlap: float = 0.5

    def __call__(self, supervised: SupervisedSet, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Summed over queries and classes, divided by the set's normalizer; no gradient through IoU and weight."""
        counted = counted_queries(supervised, self.ignore_overlap)
        logits = counted_logits(supervised, counted)
        positive = at_matched_class(supervised, logits, 1.0)
        quality = at_matched_class(supervised, logits, self._quality(supervised).to(logits.dtype))
        loss = varifocal_loss(logits, positive, quality, self.alpha, self.gamma)
        return {"classification": (loss * counted[..., None]).sum() / supervised.normalizer}

    def _quality(self, supervised: SupervisedSet) -> Float[Tensor, " M"]:
        predicted = cxcywh_to_xyxy(predicted_boxes(supervised).detach())
        return aligned_iou(predicted, cxcywh_to_xyxy(target_boxes(supervised)), self.iou_eps)


def varifocal_loss(
    logits: Float[Tensor, "*shape K"],
    positive: Float[Tensor, "*shape K"],
    quality: Float[Tensor, "*shape K"],
    alpha: float = 0.75,
    gamma: float = 2.0,
) -> Float[Tensor, "*shape K"]:
    """Cross entropy with `quality` times (alpha p^gamma where not `positive`, plus `quality`), element by element.

    positive: 1 at the matched class, else 0; quality: the pair's IoU there, else 0. The weight carries no gradient.
    """
    weight = alpha * logits.detach().sigmoid() ** gamma * (1 - positive) + quality
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * weight
