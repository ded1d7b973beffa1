"""What a dense detector did with one batch beside its detections: which cells it was pointed at, and which it computed.

Dense detectors have no queries of a decoder: the rows that the general charts count are the detections that are left
after suppression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from smidgen.boxes import xyxy_to_cxcywh
from smidgen.inference.query_scores import QueryScores, query_scores_on, taught_maps, why_no_query_scores
from smidgen.structures import DenseOutput, DetectorOutput, FeaturePyramid, Predictions
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery


@dataclass(frozen=True, slots=True)
class Pointing:
    """A query head at work.

    scores: of all cells, also those that the cascade did not ask. limits_px: by query level, the size below which an
    object is small there. cascade: None = everything is computed.
    """

    scores: QueryScores
    limits_px: Mapping[int, float]
    cascade: CascadeSparseQuery | None


@dataclass(frozen=True, slots=True)
class DenseSight:
    """output: of the detector. pointing: None for one without a query head."""

    output: DenseOutput
    pointing: Pointing | None


def dense_sight(model: nn.Module, output: DenseOutput, pyramid: FeaturePyramid) -> DenseSight:
    """From the output and the neck's levels of the same batch."""
    if why_no_query_scores(model) is not None:
        return DenseSight(output, None)
    detector: Any = model
    scores, taught = query_scores_on(model, pyramid), taught_maps(model)
    limits_px = {level: taught.limit_in_strides * scores.strides[level] for level in scores.scores}
    return DenseSight(output, Pointing(scores, limits_px, detector.querying.cascade))


def as_detector_output(model: nn.Module, output: DenseOutput) -> DetectorOutput:
    """The detections as predictions: a row for each, in which only its own class has a score."""
    detector: Any = model
    found = detector.readout(output, output.sizes_hw, detector.classes)
    boxes = [_normalized(one.boxes_xyxy, size) for one, size in zip(found, output.sizes_hw, strict=True)]
    logits = [_of_one_class(one.scores, one.labels, len(detector.classes)) for one in found]
    missing = [torch.zeros(len(one), dtype=torch.bool, device=one.scores.device) for one in found]
    final = Predictions(
        pad_sequence(logits, batch_first=True, padding_value=-torch.inf),
        pad_sequence(boxes, batch_first=True),
        pad_sequence(missing, batch_first=True, padding_value=True),
    )
    return DetectorOutput(final, evidence=output.evidence)


def _normalized(boxes_xyxy: torch.Tensor, size_hw: Sequence[int]) -> torch.Tensor:
    height, width = size_hw
    return xyxy_to_cxcywh(boxes_xyxy.float()) / boxes_xyxy.new_tensor([width, height, width, height])


def _of_one_class(scores: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    logits = scores.new_full((len(scores), num_classes), -torch.inf)
    return logits.scatter(1, labels[:, None], scores.logit()[:, None])
