"""From what the first stage says of anchors to the regions that the second stage looks at.

Ren et al., "Faster R-CNN", 2015, section 3; on several levels as in Lin et al., "Feature Pyramid Networks", CVPR 2017:
the best of each level, suppression within a level, then the best of all levels. A level may hold chosen cells only
(QueryDet), so that images bring different numbers of regions.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import batched_nms

from smidgen.boxes.anchors import AnchorShapes, cell_centers
from smidgen.boxes.best_of_each_image import best_of_each_image
from smidgen.boxes.box_coding import decode_deltas
from smidgen.nn.shapes_only import has_values
from smidgen.structures import DenseOutput, LevelAnswers
from smidgen.structures.regions import Regions


class RegionProposals(nn.Module):
    """candidates: of each level and image before suppression, in training and in evaluation. num_regions: after it."""

    def __init__(
        self,
        anchors: AnchorShapes,
        *,
        candidates: tuple[int, int] = (2000, 1000),
        nms_iou: float = 0.7,
        num_regions: int = 1000,
    ) -> None:
        super().__init__()
        self.anchors, self.candidates, self.nms_iou, self.num_regions = anchors, candidates, nms_iou, num_regions

    @torch.no_grad()
    def forward(self, output: DenseOutput) -> Regions:
        """At most `num_regions` regions of each image, inside it, none empty; without gradient."""
        parts = [self._level(output, level) for level in range(len(output.levels))]
        image, scores, boxes = (torch.cat(values) for values in zip(*parts, strict=True))
        level = torch.cat([torch.full_like(part[0], index) for index, part in enumerate(parts)])
        batch = len(output.sizes_hw)
        if not has_values(scores):
            return _as_many_as_ever(image, boxes, batch, self.num_regions)
        filled = ((boxes[:, 2:] > boxes[:, :2]).all(-1) & scores.isfinite()).nonzero()[:, 0]
        group = image * len(output.levels) + level
        kept = filled[batched_nms(boxes[filled], scores[filled], group[filled], self.nms_iou)]
        best = kept[best_of_each_image(scores[kept], image[kept], self.num_regions, batch)]
        return Regions(boxes[best], image[best], batch)

    def _level(self, output: DenseOutput, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image, logit and clipped box of the candidates of one level."""
        answers, stride = output.levels[level], output.strides[level]
        image = _image_of(answers)
        scores = answers.logits.float().flatten().masked_fill(~_visible(output, level, image), -torch.inf)
        best = _best(answers, scores, image, self.candidates[0 if self.training else 1])
        if answers.cells is None:
            anchors = self.anchors.of_level(level, answers.shape, stride, scores.device).flatten(0, 1)
            anchors = anchors[best % len(anchors)]
        else:
            anchors = self.anchors.at_cells(level, answers.cells, stride).flatten(0, 1)[best]
        boxes = decode_deltas(anchors, answers.regression.flatten(0, 1)[best])
        limit = boxes.new_tensor([[width, height, width, height] for height, width in output.sizes_hw])[image[best]]
        return image[best], scores[best], torch.minimum(boxes.clamp(min=0), limit)


def _image_of(answers: LevelAnswers) -> Int[Tensor, " nA"]:
    """The image of every answer."""
    rows, per_cell = answers.logits.shape[:2]
    if answers.cells is not None:
        return answers.cells.image.repeat_interleave(per_cell)
    images = torch.arange(answers.batch, device=answers.logits.device)
    return images.repeat_interleave(rows // answers.batch * per_cell)


def _visible(output: DenseOutput, level: int, image: Int[Tensor, " nA"]) -> Bool[Tensor, " nA"]:
    """Answers of cells whose top left corner lies in their image; those in the padding propose nothing."""
    answers, stride = output.levels[level], output.strides[level]
    per_cell = answers.logits.shape[1]
    if answers.cells is None:
        corners = cell_centers(answers.shape, stride, 0.0, image.device).repeat(answers.batch, 1)
    else:
        corners = cell_centers(answers.cells, stride, 0.0)
    sizes = corners.new_tensor([[width, height] for height, width in output.sizes_hw])
    return (corners.repeat_interleave(per_cell, dim=0) < sizes[image]).all(-1)


def _best(
    answers: LevelAnswers, scores: Float[Tensor, " nA"], image: Int[Tensor, " nA"], count: int
) -> Int[Tensor, " m"]:
    """Indices of the best answers of each image."""
    if answers.cells is not None:
        return best_of_each_image(scores, image, count, answers.batch)
    per_image = scores.unflatten(0, (answers.batch, -1))
    best = per_image.topk(min(count, per_image.shape[1]), dim=1).indices
    start = torch.arange(answers.batch, device=best.device)[:, None] * per_image.shape[1]
    return (best + start).flatten()


def _as_many_as_ever(image: Tensor, boxes: Tensor, batch: int, count: int) -> Regions:
    """The largest number of regions, whichever: their shapes are all that counts."""
    count = min(count, len(image) // batch)
    return Regions(boxes[: batch * count], image[: batch * count], batch)
