"""The two-stage detectors' answers in fixed shapes: regions, and what the second stage says of them.

The same rules as `smidgen.decoder.region_proposals` and `smidgen.decoder.region_readout`, for a whole batch at once and
without a shape that values decide. One limit is added: the best 10 pairs of region and class for each row of the answer
enter the last suppression, where the model lets every pair above its threshold in.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from smidgen.boxes.box_coding import decode_deltas
from smidgen.boxes.suppression import suppress
from smidgen.decoder.region_proposals import RegionProposals
from smidgen.decoder.region_readout import RegionReadout
from smidgen.export.cell_answers import in_image, visible_cells
from smidgen.export.fixed_detections import FixedDetections, best_rows, rows_at
from smidgen.export.fixed_heads import FixedLevels, heads_in_fixed_shapes
from smidgen.structures import ImageBatch
from smidgen.structures.regions import Regions

CANDIDATES_PER_DETECTION = 10


class RegionDetector(nn.Module):
    """A two-stage detector with its proposals and readout in fixed shapes. num_detections: rows of the answer."""

    def __init__(self, detector: nn.Module, readout: RegionReadout, num_detections: int) -> None:
        super().__init__()
        self.detector, self.readout, self.num_detections = detector, readout, num_detections

    def forward(self, images: ImageBatch, sizes_hw: Int[Tensor, "B 2"]) -> FixedDetections:
        """Detections of each image."""
        detector: Any = self.detector
        levels = heads_in_fixed_shapes(detector, images)
        boxes, exists = self._regions(levels, sizes_hw)
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand(-1, boxes.shape[1])
        answers = detector.region_head(levels.pyramid, Regions(boxes.flatten(0, 1), image.flatten(), boxes.shape[0]))
        shape = boxes.shape[:2]
        scores = answers.logits.float().softmax(-1)[:, :-1].unflatten(0, shape)
        return self._suppressed(boxes, exists, scores, answers.deltas.unflatten(0, shape), sizes_hw)

    def _regions(
        self, levels: FixedLevels, sizes_hw: Int[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B R 4"], Bool[Tensor, "B R"]]:
        """The best regions of all levels, and which of them exist."""
        proposals: RegionProposals = self.detector.proposals  # type: ignore[assignment]
        parts = [self._proposed(levels, level, sizes_hw) for level in range(len(levels.answers))]
        boxes, scores = (torch.cat(values, dim=1) for values in zip(*parts, strict=True))
        level = torch.cat([torch.full_like(part[1], index, dtype=torch.long) for index, part in enumerate(parts)], 1)
        kept = suppress(boxes, scores, level, len(parts), proposals.nms_iou)
        best, index = best_rows(scores.masked_fill(~kept, -1.0), proposals.num_regions)
        exists = best >= 0
        return rows_at(boxes, index).masked_fill(~exists[..., None], 0.0), exists

    def _proposed(
        self, levels: FixedLevels, level: int, sizes_hw: Int[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B m 4"], Float[Tensor, "B m"]]:
        """The level's boxes, cut at the image, and objectness in [0, 1]; -1 where there is none or it is empty."""
        proposals: RegionProposals = self.detector.proposals  # type: ignore[assignment]
        answers, stride = levels.answers[level], levels.strides[level]
        hidden = ~visible_cells(answers.shape, stride, sizes_hw).repeat_interleave(answers.logits.shape[1], dim=1)
        logits = answers.per_image(answers.logits.float())[..., 0].masked_fill(hidden, -torch.inf)
        best, index = best_rows(logits, proposals.candidates[1])
        anchors = proposals.anchors.of_level(level, answers.shape, stride, logits.device).flatten(0, 1)
        boxes = decode_deltas(anchors[index], rows_at(answers.per_image(answers.regression), index))
        limit = sizes_hw.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)
        boxes = torch.minimum(boxes.clamp(min=0), limit)
        exists = best.isfinite() & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        return boxes, best.sigmoid().masked_fill(~exists, -1.0)

    def _suppressed(
        self,
        regions: Float[Tensor, "B R 4"],
        exists: Bool[Tensor, "B R"],
        scores: Float[Tensor, "B R K"],
        deltas: Float[Tensor, "B R K 4"],
        sizes_hw: Int[Tensor, "B 2"],
    ) -> FixedDetections:
        num_classes = scores.shape[2]
        boxes = decode_deltas(regions[:, :, None].expand_as(deltas), deltas, self.readout.weights)
        limit = sizes_hw.flip(1).repeat(1, 2)[:, None, None].to(boxes.dtype)
        boxes = torch.minimum(boxes.clamp(min=0), limit)
        allowed = exists[..., None] & (scores > self.readout.score_threshold) & _filled(boxes)
        pairs = scores.masked_fill(~allowed, -1.0).flatten(1)
        best, pair = best_rows(pairs, CANDIDATES_PER_DETECTION * self.num_detections)
        chosen, labels, best = rows_at(boxes.flatten(1, 2), pair), pair % num_classes, best.clamp(min=-1.0)
        kept = suppress(chosen, best, labels, num_classes, self.readout.nms_iou)
        score, index = best_rows(best.masked_fill(~kept, -1.0), self.num_detections)
        return in_image(rows_at(chosen, index), score, labels.gather(1, index), sizes_hw)


def _filled(boxes_xyxy: Float[Tensor, "*shape 4"]) -> Bool[Tensor, "*shape"]:
    return (boxes_xyxy[..., 2:] > boxes_xyxy[..., :2]).all(-1)
