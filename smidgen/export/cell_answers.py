"""The dense family's answers in fixed shapes: the best of each level, decoded, then suppressed class by class.

The same rules as `smidgen.decoder.dense_readout`, for a whole batch at once and without a shape that values decide.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from smidgen.boxes.suppression import suppress
from smidgen.decoder.dense_readout import DenseReadout
from smidgen.export.fixed_detections import FixedDetections, best_rows, rows_at
from smidgen.export.fixed_heads import FixedLevels, heads_in_fixed_shapes
from smidgen.structures import Cells, ImageBatch, LevelAnswers


class CellDetector(nn.Module):
    """A dense detector with what its readout does, in fixed shapes. num_detections: rows of the answer."""

    def __init__(self, detector: nn.Module, readout: DenseReadout, num_classes: int, num_detections: int) -> None:
        super().__init__()
        self.detector, self.readout = detector, readout
        self.num_classes, self.num_detections = num_classes, num_detections

    def forward(self, images: ImageBatch, sizes_hw: Int[Tensor, "B 2"]) -> FixedDetections:
        """Detections of each image."""
        levels = heads_in_fixed_shapes(self.detector, images)
        found = [self._candidates(levels, level, sizes_hw) for level in range(len(levels.answers))]
        boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        kept = suppress(boxes, scores, labels, self.num_classes, self.readout.nms_iou)
        best, index = best_rows(scores.masked_fill(~kept, -1.0), self.num_detections)
        return in_image(rows_at(boxes, index), best, labels.gather(1, index), sizes_hw)

    def _candidates(
        self, levels: FixedLevels, level: int, sizes_hw: Int[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B m 4"], Float[Tensor, "B m"], Int[Tensor, "B m"]]:
        """The level's boxes (pixels of the network input), scores (-1 where there is none) and labels."""
        answers, stride = levels.answers[level], levels.strides[level]
        num_answers, num_classes = answers.logits.shape[1:]
        ranks = self._ranks(answers)
        if not self.readout.padded_cells:
            hidden = ~visible_cells(answers.shape, stride, sizes_hw)[:, :, None, None]
            ranks = ranks.masked_fill(hidden, -torch.inf)
        best, index = best_rows(ranks.flatten(1), self.readout.candidates)
        cell, answer = index // (num_answers * num_classes), index // num_classes % num_answers
        exists = self._exists(best) & (best.new_ones(best.shape[1]).cumsum(0) <= levels.counts(level)[:, None])
        regression = rows_at(answers.per_image(answers.regression), cell * num_answers + answer)
        cells = cells_at(cell.flatten(), answers.shape)
        boxes = self.readout.decoder(level, cells, stride, answer.flatten(), regression.flatten(0, 1).float())
        return boxes.view_as(regression), self._scores(best).masked_fill(~exists, -1.0), index % num_classes

    def _ranks(self, answers: LevelAnswers) -> Float[Tensor, "B cells A K"]:
        """As `DenseReadout` orders its candidates."""
        ranks = self.readout.ranks(answers.logits, answers.centerness)
        return ranks.unflatten(0, (answers.batch, -1))

    def _exists(self, ranks: Tensor) -> Bool[Tensor, "B m"]:
        return ranks > 0 if self.with_centerness else ranks.sigmoid() > self.readout.score_threshold

    def _scores(self, ranks: Tensor) -> Float[Tensor, "B m"]:
        return ranks.clamp(min=0).sqrt() if self.with_centerness else ranks.sigmoid()

    @property
    def with_centerness(self) -> bool:
        """Whether the head judges how central a cell is (FCOS)."""
        return getattr(self.detector.head, "centerness_prediction", None) is not None


def cells_at(index: Int[Tensor, " n"], shape: tuple[int, int]) -> Cells:
    """Cells of one level by their number, row by row.

    Looked up in maps of rows and columns: exporters cannot divide by a width that is not known yet.
    """
    row = torch.arange(shape[0], device=index.device)[:, None].expand(shape).flatten()
    column = torch.arange(shape[1], device=index.device).expand(shape).flatten()
    return Cells(torch.zeros_like(index), row[index], column[index], shape, 1)


def visible_cells(shape: tuple[int, int], stride: int, sizes_hw: Int[Tensor, "B 2"]) -> Bool[Tensor, "B cells"]:
    """True at cells that start inside their image."""
    rows = torch.arange(shape[0], device=sizes_hw.device) * stride < sizes_hw[:, :1]
    columns = torch.arange(shape[1], device=sizes_hw.device) * stride < sizes_hw[:, 1:]
    return (rows[:, :, None] & columns[:, None]).flatten(1)


def in_image(
    boxes_xyxy: Float[Tensor, "B D 4"],
    scores: Float[Tensor, "B D"],
    labels: Int[Tensor, "B D"],
    sizes_hw: Int[Tensor, "B 2"],
) -> FixedDetections:
    """Boxes in pixels of the network input, cut at the image, as shares of it; what is then empty is not valid."""
    limit = sizes_hw.flip(1).repeat(1, 2)[:, None].to(boxes_xyxy.dtype)
    boxes = torch.minimum(boxes_xyxy.clamp(min=0), limit)
    valid = (scores >= 0) & (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return FixedDetections(boxes / limit, scores.clamp(min=0), labels, valid)
