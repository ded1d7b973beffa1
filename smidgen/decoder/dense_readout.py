"""Answers of cells to detections: the best of each level, decoded, then suppressed class by class.

Tsung-Yi Lin et al., "Focal Loss for Dense Object Detection" (RetinaNet), ICCV 2017, Section 4 (inference); for points
Zhi Tian et al., "FCOS", ICCV 2019, whose score is sqrt(class probability x centerness). As in the official QueryDet
code, but for any number of images, and cells in the padding propose nothing (there, they take places among the
candidates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import batched_nms

from smidgen.boxes import clip_to_image
from smidgen.boxes.anchors import AnchorShapes, cell_centers
from smidgen.boxes.box_coding import decode_deltas, decode_distances
from smidgen.structures import Cells, Classes, DenseOutput, Detections, LevelAnswers


class BoxDecoder(Protocol):
    """Boxes (xyxy pixels of the network input) of some answers: cell, which of its A, and its regression."""

    def __call__(
        self, level: int, cells: Cells, stride: int, answer: Int[Tensor, " m"], regression: Float[Tensor, "m 4"]
    ) -> Float[Tensor, "m 4"]: ...


@dataclass(frozen=True)
class AnchorBoxes:
    """Regression is deltas to anchors."""

    anchors: AnchorShapes

    def __call__(
        self, level: int, cells: Cells, stride: int, answer: Int[Tensor, " m"], regression: Float[Tensor, "m 4"]
    ) -> Float[Tensor, "m 4"]:
        """Boxes in xyxy pixels of the network input."""
        of_cells = self.anchors.at_cells(level, cells, stride)
        anchors = of_cells[torch.arange(answer.shape[0], device=answer.device), answer]
        return decode_deltas(anchors, regression)


@dataclass(frozen=True)
class PointBoxes:
    """Regression is distances in pixels; offset: where in its cell the point lies, 0.5 = center."""

    offset: float = 0.5

    def __call__(
        self, level: int, cells: Cells, stride: int, answer: Int[Tensor, " m"], regression: Float[Tensor, "m 4"]
    ) -> Float[Tensor, "m 4"]:
        """Boxes in xyxy pixels of the network input."""
        return decode_distances(cell_centers(cells, stride, self.offset), regression)


class ScoredBoxes(NamedTuple):
    """Boxes of one image in xyxy pixels of the network input."""

    boxes_xyxy: Float[Tensor, "m 4"]
    scores: Float[Tensor, " m"]
    labels: Int[Tensor, " m"]

    def take(self, index: Int[Tensor, " k"] | Bool[Tensor, " m"]) -> ScoredBoxes:
        """The chosen ones."""
        return ScoredBoxes(self.boxes_xyxy[index], self.scores[index], self.labels[index])


class DenseReadout(nn.Module):
    """At most `candidates` (answer, class) pairs of each level and image, then class-wise non-maximum suppression.

    Of a level with fewer answers, at most as many pairs as there are answers (official).
    decoder: what makes boxes, `AnchorBoxes` or `PointBoxes`. score_threshold: candidates score strictly above it (with
    centerness, their class probability does). nms_iou: of two boxes of a class that overlap more, the better one stays.
    num_detections: at most so many in an image. padded_cells: whether cells in the padding propose, too (official).
    """

    def __init__(
        self,
        decoder: BoxDecoder,
        score_threshold: float = 0.05,
        candidates: int = 1000,
        nms_iou: float = 0.5,
        num_detections: int = 100,
        padded_cells: bool = False,
    ) -> None:
        super().__init__()
        self.decoder, self.score_threshold, self.candidates = decoder, score_threshold, candidates
        self.nms_iou, self.num_detections, self.padded_cells = nms_iou, num_detections, padded_cells

    def forward(
        self, output: DenseOutput, original_hw: Sequence[tuple[int, int]], classes: Classes
    ) -> list[Detections]:
        """One `Detections` per image, best first, clipped to the image; empty boxes are left out."""
        return [
            _detections(self.suppressed(output, image), output.sizes_hw[image], size_hw, classes)
            for image, size_hw in enumerate(original_hw)
        ]

    def suppressed(self, output: DenseOutput, image: int) -> ScoredBoxes:
        """One image's boxes after suppression, best first, in pixels of the network input, not clipped."""
        found = [self._candidates(output, level, image) for level in range(len(output.levels))]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = batched_nms(boxes, scores, labels, self.nms_iou)[: self.num_detections]
        return ScoredBoxes(boxes, scores, labels).take(kept)

    def _candidates(self, output: DenseOutput, level: int, image: int) -> ScoredBoxes:
        answers, stride = output.levels[level], output.strides[level]
        cells, logits, regression, centerness = _of_image(answers, image)
        ranks = self.ranks(logits, centerness)
        if not self.padded_cells and output.sizes_hw[image] != output.canvas_hw:
            ranks = ranks.masked_fill(_outside(cells, stride, output.sizes_hw[image])[:, None, None], -torch.inf)
        num_answers, num_classes = logits.shape[1:]
        best, index = ranks.flatten().topk(min(self.candidates, len(cells) * num_answers))
        scores = best.sigmoid() if centerness is None else best.clamp(min=0).sqrt()
        index = index[scores > self.score_threshold] if centerness is None else index[best > 0]
        row, answer = index // (num_answers * num_classes), index // num_classes % num_answers
        boxes = self.decoder(level, _at(cells, row), stride, answer, regression[row, answer].float())
        return ScoredBoxes(boxes, scores[: len(index)], index % num_classes)

    def ranks(self, logits: Float[Tensor, "n A K"], centerness: Float[Tensor, "n A"] | None) -> Float[Tensor, "n A K"]:
        """What candidates are ordered by: logits, or probability times centerness, 0 below the threshold."""
        if centerness is None:
            return logits.float()
        probability = logits.float().sigmoid()
        ranks = probability * centerness.float().sigmoid()[..., None]
        return ranks.masked_fill(probability <= self.score_threshold, 0.0)


def _of_image(answers: LevelAnswers, image: int) -> tuple[Cells, Tensor, Tensor, Tensor | None]:
    """The image's cells, and their logits, regression and centerness (views: cells are sorted by image)."""
    height, width = answers.shape
    if answers.cells is None:
        place = torch.arange(height * width, device=answers.logits.device)
        start, stop = image * height * width, (image + 1) * height * width
        cells = Cells(torch.full_like(place, image), place // width, place % width, answers.shape, answers.batch)
    else:
        ends = torch.tensor([image, image + 1]).to(answers.logits.device)
        start, stop = torch.searchsorted(answers.cells.image, ends).tolist()
        cells = _at(answers.cells, slice(start, stop))
    rows = slice(start, stop)
    centerness = None if answers.centerness is None else answers.centerness[rows]
    return cells, answers.logits[rows], answers.regression[rows], centerness


def _at(cells: Cells, which: Int[Tensor, " m"] | slice) -> Cells:
    return Cells(cells.image[which], cells.row[which], cells.column[which], cells.shape, cells.batch)


def _outside(cells: Cells, stride: int, size_hw: tuple[int, int]) -> Bool[Tensor, " n"]:
    """Whether a cell starts beyond the image's last row or column of pixels."""
    return (cells.row * stride >= size_hw[0]) | (cells.column * stride >= size_hw[1])


def _detections(
    found: ScoredBoxes, size_hw: tuple[int, int], original_hw: tuple[int, int], classes: Classes
) -> Detections:
    boxes = clip_to_image(found.boxes_xyxy, size_hw)
    nonempty = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    found, boxes = found.take(nonempty), boxes[nonempty]
    scale = boxes.new_tensor([original_hw[1] / size_hw[1], original_hw[0] / size_hw[0]]).repeat(2)
    return Detections(
        boxes * scale,
        found.scores,
        found.labels,
        (original_hw[0], original_hw[1]),
        class_names=classes.names,
        category_ids=classes.ids,
    )
