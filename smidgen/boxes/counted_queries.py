"""What a class loss reads of a supervised set: which queries count, their logits, and values at the matched classes.

Left out are queries that do not exist (padding), and unmatched queries whose box lies mostly inside an ignore region of
the image: whether they found something real there nobody knows.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.boxes.conversions import cxcywh_to_xyxy
from smidgen.boxes.matched_pairs import target_labels
from smidgen.boxes.overlap import pairwise_iof
from smidgen.boxes.precision import full_precision
from smidgen.structures import SupervisedSet


def counted_queries(supervised: SupervisedSet, ignore_overlap: float) -> Bool[Tensor, "B Q"]:
    """Queries that exist and are either matched or not inside an ignore region.

    ignore_overlap: share of an unmatched query's box inside a region from which on it is left out.
    """
    predictions, matches = supervised.predictions, supervised.matches
    counted = ~_inside_ignore_regions(supervised, ignore_overlap)
    counted[matches.image, matches.query] = True
    return counted if predictions.padding is None else counted & ~predictions.padding


def counted_logits(supervised: SupervisedSet, counted: Bool[Tensor, "B Q"]) -> Float[Tensor, "B Q K"]:
    """Logits in full precision, 0 where a query is left out."""
    # Zeroed before the loss and not only after it: a NaN in a query that does not exist would reach the gradient.
    logits = full_precision(supervised.predictions.logits)
    return logits.masked_fill(~counted[..., None], 0.0)


def at_matched_class(
    supervised: SupervisedSet, logits: Float[Tensor, "B Q K"], value: Float[Tensor, " M"] | float
) -> Float[Tensor, "B Q K"]:
    """Each pair's value at its query and its object's class, 0 everywhere else; type and shape as `logits`."""
    matches = supervised.matches
    placed = torch.zeros_like(logits)
    placed[matches.image, matches.query, target_labels(supervised)] = value
    return placed


@torch.no_grad()
def _inside_ignore_regions(supervised: SupervisedSet, ignore_overlap: float) -> Bool[Tensor, "B Q"]:
    boxes_xyxy = cxcywh_to_xyxy(supervised.predictions.boxes_cxcywh)
    inside = torch.zeros(boxes_xyxy.shape[:2], dtype=torch.bool, device=boxes_xyxy.device)
    for image, target in enumerate(supervised.targets):
        if len(target.ignore):
            regions_xyxy = cxcywh_to_xyxy(target.ignore_cxcywh)
            inside[image] = (pairwise_iof(boxes_xyxy[image], regions_xyxy) >= ignore_overlap).any(-1)
    return inside
