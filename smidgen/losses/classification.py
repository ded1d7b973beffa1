"""How wrong the class scores are: matched queries should say their object's class, all others nothing.

Left out are queries that do not exist (padding), and unmatched queries whose box lies mostly inside an ignore region of
the image: whether they found something real there nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from smidgen.boxes import aligned_iou, cxcywh_to_xyxy, full_precision, pairwise_iof
from smidgen.boxes.matched_pairs import predicted_boxes, target_boxes, target_labels
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
        counted = _counted(supervised, self.ignore_overlap)
        logits = _counted_logits(supervised, counted)
        positive = _at_matched_class(supervised, logits, 1.0)
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
        counted = _counted(supervised, self.ignore_overlap)
        logits = _counted_logits(supervised, counted)
        positive = _at_matched_class(supervised, logits, 1.0)
        quality = _at_matched_class(supervised, logits, self._quality(supervised).to(logits.dtype))
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


def _counted_logits(supervised: SupervisedSet, counted: Bool[Tensor, "B Q"]) -> Float[Tensor, "B Q K"]:
    # Zeroed before the loss and not only after it: a NaN in a query that does not exist would reach the gradient.
    logits = full_precision(supervised.predictions.logits)
    return logits.masked_fill(~counted[..., None], 0.0)


def _at_matched_class(
    supervised: SupervisedSet, logits: Float[Tensor, "B Q K"], value: Float[Tensor, " M"] | float
) -> Float[Tensor, "B Q K"]:
    matches = supervised.matches
    placed = torch.zeros_like(logits)
    placed[matches.image, matches.query, target_labels(supervised)] = value
    return placed


def _counted(supervised: SupervisedSet, ignore_overlap: float) -> Bool[Tensor, "B Q"]:
    """Queries that exist and are either matched or not inside an ignore region."""
    predictions, matches = supervised.predictions, supervised.matches
    counted = ~_inside_ignore_regions(supervised, ignore_overlap)
    counted[matches.image, matches.query] = True
    return counted if predictions.padding is None else counted & ~predictions.padding


@torch.no_grad()
def _inside_ignore_regions(supervised: SupervisedSet, ignore_overlap: float) -> Bool[Tensor, "B Q"]:
    boxes_xyxy = cxcywh_to_xyxy(supervised.predictions.boxes_cxcywh)
    inside = torch.zeros(boxes_xyxy.shape[:2], dtype=torch.bool, device=boxes_xyxy.device)
    for image, target in enumerate(supervised.targets):
        if len(target.ignore):
            regions_xyxy = cxcywh_to_xyxy(target.ignore_cxcywh)
            inside[image] = (pairwise_iof(boxes_xyxy[image], regions_xyxy) >= ignore_overlap).any(-1)
    return inside
