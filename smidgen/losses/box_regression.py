"""How far the boxes of matched queries are from their objects: L1 and generalized IoU.

Carion et al., "End-to-End Object Detection with Transformers", 2020, section 3.1. Both are sums over pairs divided by
the set's normalizer, so that an object weighs the same in a sparse and in a crowded image of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from smidgen.boxes import aligned_giou, cxcywh_to_xyxy
from smidgen.boxes.matched_pairs import predicted_boxes, target_boxes
from smidgen.structures import SupervisedSet

PairWeighting: TypeAlias = Callable[[SupervisedSet, Float[Tensor, "M 4"], float], Float[Tensor, " M"]]
"""(set, the pairs' target boxes in cxcywh, progress) to the factor of each pair's box loss.

Factors are multiplied on as they are: a rule that should leave the total alone, as LSQ-DETR's, divides by their mean.
"""


@dataclass(frozen=True, kw_only=True)
class L1Loss:
    """Sum of absolute differences of (cx, cy, w, h), in shares of the image, named "l1".

    weighting: a factor per pair, such as LSQ-DETR's by object size; None = all 1.
    """

    weighting: PairWeighting | None = None

    def __call__(self, supervised: SupervisedSet, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Divided by the set's normalizer; 0 with a gradient connection where nothing is matched."""
        objects = target_boxes(supervised)
        distance = (predicted_boxes(supervised) - objects).abs().sum(-1)
        return {"l1": _total(distance, supervised, objects, progress, self.weighting)}


@dataclass(frozen=True, kw_only=True)
class GIoULoss:
    """Sum of 1 - generalized IoU, named "giou".

    eps: as in `smidgen.boxes.aligned_giou`; DINO and its descendants have 1e-6. weighting: as in `L1Loss`.
    """

    eps: float = 0.0
    weighting: PairWeighting | None = None

    def __call__(self, supervised: SupervisedSet, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Divided by the set's normalizer; 0 with a gradient connection where nothing is matched."""
        objects = target_boxes(supervised)
        predicted = predicted_boxes(supervised)
        distance = 1 - aligned_giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(objects), self.eps)
        return {"giou": _total(distance, supervised, objects, progress, self.weighting)}


def _total(
    per_pair: Float[Tensor, " M"],
    supervised: SupervisedSet,
    objects: Float[Tensor, "M 4"],
    progress: float,
    weighting: PairWeighting | None,
) -> Float[Tensor, ""]:
    if weighting is not None:
        per_pair = per_pair * weighting(supervised, objects, progress)
    return per_pair.sum() / supervised.normalizer
