"""One prediction for each object, so that the total of class, L1 and generalized IoU costs is least.

Carion et al., "End-to-End Object Detection with Transformers", 2020, equation 1; the focal class cost is Deformable
DETR's (Zhu et al., 2021). The official code builds the cost of all images' predictions against all images' objects and
throws most of it away; here the cost is made per image, for all decoder layers of a step at once, which gives the same
assignment (benchmarks/matching.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from smidgen.boxes import cxcywh_to_xyxy, full_precision, pairwise_giou
from smidgen.boxes.host_matching import MatchRequest, Pairs, match_together
from smidgen.boxes.solvers import Solver
from smidgen.structures import Matches, Predictions, Target

PAIRS_AT_ONCE = {"cpu": 2**18}
"""Pairs whose cost is computed at a time: on a CPU 1 MB for each intermediate, which stays in the cache."""

PAIRS_AT_ONCE_ELSEWHERE = 2**24
"""64 MB for each intermediate, which at once could take gigabytes."""


@dataclass(frozen=True, kw_only=True)
class HungarianAssignment:
    """Least-cost one-to-one matching of each image's predictions with its objects.

    classification, l1, giou: weights of the costs (DETR's 2, 5, 2). alpha, gamma: of the focal class cost.
    log_eps: keeps its logarithms finite, 1e-8 in Deformable DETR and DINO, 1e-6 in Salience DETR and Relation-DETR.
    giou_eps: as in `smidgen.boxes.aligned_giou`; DINO and its descendants have 1e-6. solver: see boxes/solvers.py.
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
        return match_together([MatchRequest(self, predictions, targets)])[0]

    def figures(self, predictions: Predictions, targets: Sequence[Target]) -> list[Float[Tensor, "1 Q _"]]:
        """The costs, image by image."""
        return [cost[None] for cost in self.costs(predictions, targets)]

    def pairs(self, figures: NDArray[Any]) -> Pairs:
        """The least costly pairs of one image."""
        return self.solver(figures[0])

    @torch.no_grad()
    def costs(self, predictions: Predictions, targets: Sequence[Target]) -> list[Float[Tensor, "Q _"]]:
        """Cost of each query for each object of its image, one matrix per image, at least float32."""
        of_classes = self._class_cost(full_precision(predictions.logits))
        images = zip(of_classes, full_precision(predictions.boxes_cxcywh), targets, strict=True)
        return [self._costs_of_image(*image) for image in images]

    def _costs_of_image(self, of_classes: Tensor, boxes_cxcywh: Tensor, target: Target) -> Float[Tensor, "Q _"]:
        objects_cxcywh = full_precision(target.boxes_cxcywh).to(boxes_cxcywh.dtype)
        pairs_at_once = PAIRS_AT_ONCE.get(boxes_cxcywh.device.type, PAIRS_AT_ONCE_ELSEWHERE)
        rows = max(1, pairs_at_once // max(1, len(target)))
        parts = zip(of_classes.split(rows), boxes_cxcywh.split(rows), strict=True)
        return torch.cat([self._cost(*part, objects_cxcywh, target.labels) for part in parts])

    def _cost(self, of_classes: Tensor, boxes_cxcywh: Tensor, objects_cxcywh: Tensor, labels: Tensor) -> Tensor:
        distance = torch.cdist(boxes_cxcywh, objects_cxcywh, p=1)
        overlap = pairwise_giou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(objects_cxcywh), self.giou_eps)
        disagreement = of_classes.index_select(1, labels)
        return self.l1 * distance + self.classification * disagreement - self.giou * overlap

    def _class_cost(self, logits: Float[Tensor, "B Q K"]) -> Float[Tensor, "B Q K"]:
        """What the focal loss would gain by making each class a positive instead of a negative."""
        score = logits.sigmoid()
        as_positive = self.alpha * (1 - score) ** self.gamma * -torch.log(score + self.log_eps)
        as_negative = (1 - self.alpha) * score**self.gamma * -torch.log(1 - score + self.log_eps)
        return as_positive - as_negative
