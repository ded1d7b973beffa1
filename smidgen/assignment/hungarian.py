"""One prediction for each object, so that the total of class, L1 and generalized IoU costs is least.

Carion et al., "End-to-End Object Detection with Transformers", 2020, equation 1; the focal class cost is Deformable
DETR's (Zhu et al., 2021). The official code builds the cost of all images' predictions against all images' objects and
throws most of it away; here the cost is made per image, which gives the same assignment (benchmarks/matching.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from smidgen.boxes import cxcywh_to_xyxy, full_precision, pairwise_giou
from smidgen.boxes.host_matching import check_one_target_per_image, collected, copied_to_host
from smidgen.structures import Matches, Predictions, Target

Solver: TypeAlias = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class HungarianAssignment:
    """Least-cost one-to-one matching of each image's predictions with its objects.

    classification, l1, giou: weights of the costs (DETR's 2, 5, 2). alpha, gamma: of the focal class cost.
    log_eps: keeps its logarithms finite, 1e-8 in Deformable DETR and DINO, 1e-6 in Salience DETR and Relation-DETR.
    giou_eps: as in `smidgen.boxes.aligned_giou`; DINO and its descendants have 1e-6. solver: costs (predictions x
    objects) to the indices of min(predictions, objects) pairs, sorted by prediction.
    """

    classification: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0
    log_eps: float = 1e-8
    giou_eps: float = 0.0
    solver: Solver = linear_sum_assignment

    @torch.no_grad()
    def __call__(self, predictions: Predictions, targets: Sequence[Target]) -> Matches:
        """Pairs image by image, sorted by query; padded queries stay out; of more objects than queries some go without.

        Raises ValueError where an existing query's logits or box are not finite.
        """
        images = zip(*copied_to_host(predictions, self.costs(predictions, targets)), strict=True)
        return collected([self._solve(existing, cost) for existing, cost in images], predictions.logits.device)

    def costs(self, predictions: Predictions, targets: Sequence[Target]) -> list[Float[Tensor, "Q _"]]:
        """Cost of each query for each object of its image, one matrix per image, at least float32."""
        check_one_target_per_image(predictions, targets)
        rows = zip(predictions.logits, predictions.boxes_cxcywh, targets, strict=True)
        return [self._cost(full_precision(logits), full_precision(boxes), target) for logits, boxes, target in rows]

    def _cost(self, logits: Tensor, boxes_cxcywh: Tensor, target: Target) -> Tensor:
        objects_cxcywh = full_precision(target.boxes_cxcywh).to(boxes_cxcywh.dtype)
        distance = torch.cdist(boxes_cxcywh, objects_cxcywh, p=1)
        overlap = pairwise_giou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(objects_cxcywh), self.giou_eps)
        disagreement = self._class_cost(logits)[:, target.labels]
        return self.l1 * distance + self.classification * disagreement - self.giou * overlap

    def _class_cost(self, logits: Float[Tensor, "Q K"]) -> Float[Tensor, "Q K"]:
        """What the focal loss would gain by making each class a positive instead of a negative."""
        score = logits.sigmoid()
        as_positive = self.alpha * (1 - score) ** self.gamma * -torch.log(score + self.log_eps)
        as_negative = (1 - self.alpha) * score**self.gamma * -torch.log(1 - score + self.log_eps)
        return as_positive - as_negative

    def _solve(self, existing: NDArray[Any], cost: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        query, target = self.solver(cost[existing])
        return existing[query], target
