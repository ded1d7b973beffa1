"""The DETR family's answers in fixed shapes: the best (query, class) pairs of the last decoder layer."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor, nn

from smidgen.boxes import cxcywh_to_xyxy
from smidgen.decoder.readout import TopScoring
from smidgen.export.fixed_detections import FixedDetections, best_rows, rows_at
from smidgen.structures import DetectorOutput, ImageBatch


class QueryDetector(nn.Module):
    """A DETR with what its readout does, in fixed shapes.

    num_detections: rows of the answer. Where the readout has no number of its own (DQ-DETR, LSQ-DETR: as many as there
    are queries), an image has as many valid rows as it was granted queries.
    """

    def __init__(self, detector: nn.Module, readout: TopScoring, num_detections: int) -> None:
        super().__init__()
        self.detector, self.num_detections = detector, num_detections
        self.clip, self.as_many_as_queries = readout.clip, readout.num_detections is None

    def forward(self, images: ImageBatch, sizes_hw: Int[Tensor, "B 2"]) -> FixedDetections:
        """Detections of each image; the sizes are not read, since a DETR's boxes are shares of the image."""
        output: DetectorOutput = self.detector(images)
        final = output.final
        scores = final.logits.float().sigmoid()
        if final.padding is not None:
            scores = scores.masked_fill(final.padding[..., None], -1.0)
        best, index = best_rows(scores.flatten(1), self.num_detections)
        boxes = cxcywh_to_xyxy(rows_at(final.boxes_cxcywh.float(), index // scores.shape[2]))
        valid = best >= 0
        if self.as_many_as_queries and final.padding is not None:
            valid = valid & (best.new_ones(self.num_detections).cumsum(0) <= (~final.padding).sum(1)[:, None])
        boxes = boxes.clamp(0.0, 1.0) if self.clip else boxes
        return FixedDetections(boxes, best.clamp(min=0), index % scores.shape[2], valid)
