"""Everything a detector said of one image before scores, limits and suppression took their share, and what it kept.

An object is lost late where the right answer is among the raw ones and not among those that were kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.analysis.loss_of_objects_dense import dense_answers
from smidgen.analysis.observation import Observation
from smidgen.boxes import clip_to_image, cxcywh_to_xyxy, full_precision, pairwise_iou
from smidgen.decoder.readout import TopScoring
from smidgen.structures import Classes

PAIRS_AT_ONCE = 4_000_000
"""Overlaps computed together: all cells of a fine pyramid and hundreds of objects do not fit in memory at once."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Raw answers of one image.

    boxes_xyxy: pixels of the network's input, cut at the image. scores: of all classes, in [0, 1]. rows: index of each
    answer's query, for those of a decoder. silence: only scores strictly above it become detections at all.
    """

    boxes_xyxy: Float[Tensor, "N 4"]
    scores: Float[Tensor, "N K"]
    rows: Int[Tensor, " N"]
    silence: float = 0.0

    def take(self, which: Int[Tensor, " n"] | Bool[Tensor, " N"]) -> Answers:
        """The chosen ones."""
        return Answers(self.boxes_xyxy[which], self.scores[which], self.rows[which], self.silence)


@dataclass(frozen=True, slots=True)
class Kept:
    """The detections of one image, best first, in pixels of the network's input.

    nms_iou: of two boxes of a class that overlap more, only the better one was kept; None = none was suppressed.
    """

    boxes_xyxy: Float[Tensor, "D 4"]
    scores: Float[Tensor, " D"]
    labels: Int[Tensor, " D"]
    nms_iou: float | None


def raw_answers(observation: Observation) -> list[Answers]:
    """For every image: of the last decoder layer, or of every cell or region that was computed."""
    if observation.dense is not None:
        return [Answers(*parts) for parts in dense_answers(observation.dense.output, observation.readout)]
    final, sizes = observation.output.final, observation.images.sizes
    missing = final.padding if final.padding is not None else torch.zeros_like(final.logits[..., 0], dtype=torch.bool)
    boxes = cxcywh_to_xyxy(full_precision(final.boxes_cxcywh))
    scores, clip = full_precision(final.logits).sigmoid(), getattr(observation.readout, "clip", True)
    answers = []
    for image, (height, width) in enumerate(sizes):
        in_pixels = boxes[image] * boxes.new_tensor([width, height, width, height])
        in_pixels = clip_to_image(in_pixels, (height, width)) if clip else in_pixels
        rows = (~missing[image]).nonzero()[:, 0]
        answers.append(Answers(in_pixels[rows], scores[image][rows], rows))
    return answers


def kept_detections(observation: Observation, score_floor: float, limit: int | None) -> list[Kept]:
    """For every image: what the detector's readout gives from the score floor on, at most `limit` (None = all)."""
    readout: Any = observation.readout or TopScoring()
    if observation.dense is not None:
        # The readout has spoken already: `output` holds its detections, suppressed and cut.
        readout, nms_iou = TopScoring(None), getattr(observation.readout, "nms_iou", None)
    else:
        nms_iou = getattr(readout, "nms_iou", None)
    classes = Classes.numbered(observation.output.final.logits.shape[-1])
    found = readout(observation.output, observation.images.sizes, classes)
    kept = [one.above(score_floor)[: len(one) if limit is None else limit] for one in found]
    return [Kept(one.boxes_xyxy, one.scores, one.labels, nms_iou) for one in kept]


def near_objects(
    answers: Answers, objects_xyxy: Float[Tensor, "M 4"], least_iou: float
) -> tuple[Answers, Float[Tensor, "N M"]]:
    """The answers that overlap some object at least so much, and their overlaps with all of them."""
    rows_at_once = max(1, PAIRS_AT_ONCE // max(1, len(objects_xyxy)))
    kept, overlaps = [], []
    for part, boxes in enumerate(answers.boxes_xyxy.split(rows_at_once)):
        iou = pairwise_iou(boxes, objects_xyxy)
        near = (iou >= least_iou).any(dim=1).nonzero()[:, 0]
        kept.append(near + part * rows_at_once)
        overlaps.append(iou[near])
    return answers.take(torch.cat(kept)), torch.cat(overlaps)
