"""Regions with class scores and deltas to detections in pixels of the original image (Faster R-CNN's second stage)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import batched_nms

from smidgen.boxes.best_of_each_image import best_of_each_image
from smidgen.boxes.box_coding import CoordinateWeights, decode_deltas
from smidgen.structures import Classes, DenseOutput, Detections, evidence_of
from smidgen.structures.regions import RegionAnswers


class RegionReadout(nn.Module):
    """Class scores above `score_threshold`, suppression within a class of an image, the best of what is left.

    weights: of the deltas, as in training.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        num_detections: int = 100,
        weights: CoordinateWeights = (10.0, 10.0, 5.0, 5.0),
    ) -> None:
        super().__init__()
        self.score_threshold, self.nms_iou, self.num_detections = score_threshold, nms_iou, num_detections
        self.weights = weights

    def forward(
        self, output: DenseOutput, original_hw: Sequence[tuple[int, int]], classes: Classes
    ) -> list[Detections]:
        """One `Detections` per image, best first, without empty boxes."""
        answers = evidence_of(output.evidence, RegionAnswers)
        if answers is None:
            raise ValueError("expected evidence of a second stage, got none; read dense answers with DenseReadout")
        image, label, scores, boxes = self._candidates(answers, output.sizes_hw)
        group = image * answers.deltas.shape[1] + label
        kept = batched_nms(boxes, scores, group, self.nms_iou)
        best = kept[best_of_each_image(scores[kept], image[kept], self.num_detections, len(original_hw))]
        return [
            _detections(boxes[rows], scores[rows], label[rows], size_hw, output.sizes_hw[index], classes)
            for index, size_hw in enumerate(original_hw)
            for rows in (best[image[best] == index],)
        ]

    def _candidates(
        self, answers: RegionAnswers, sizes_hw: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, class, score and box of every (region, class) pair above the threshold whose box is not empty."""
        regions, scores = answers.regions, answers.logits.float().softmax(-1)[:, :-1]
        boxes = decode_deltas(regions.boxes_xyxy[:, None].expand_as(answers.deltas), answers.deltas, self.weights)
        limit = boxes.new_tensor([[width, height, width, height] for height, width in sizes_hw])[regions.image]
        boxes = torch.minimum(boxes.clamp(min=0), limit[:, None])
        filled = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        region, label = ((scores > self.score_threshold) & filled).nonzero(as_tuple=True)
        return regions.image[region], label, scores[region, label], boxes[region, label]


def _detections(
    boxes: Float[Tensor, "D 4"],
    scores: Float[Tensor, " D"],
    labels: Tensor,
    original_hw: tuple[int, int],
    size_hw: tuple[int, int],
    classes: Classes,
) -> Detections:
    scale = boxes.new_tensor([original_hw[1] / size_hw[1], original_hw[0] / size_hw[0]]).repeat(2)
    return Detections(
        boxes * scale,
        scores,
        labels,
        (original_hw[0], original_hw[1]),
        class_names=classes.names,
        category_ids=classes.ids,
    )
