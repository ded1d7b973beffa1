"""Observations whose objects die where they are meant to: one image with queries or cells whose answers are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from observation_cases import SHAPES, STRIDES, token_of
from torch import nn

from smidgen.analysis.dense_observation import DenseSight, as_detector_output
from smidgen.analysis.observation import Observation
from smidgen.boxes import xyxy_to_cxcywh
from smidgen.decoder.dense_readout import DenseReadout, PointBoxes
from smidgen.decoder.readout import TopScoring
from smidgen.structures import (
    Classes,
    DenseOutput,
    DetectorOutput,
    ImageBatch,
    LevelAnswers,
    Places,
    Predictions,
    Target,
    Tokens,
)

SIZE = (64, 96)
NUM_CLASSES = 2
NOWHERE = (88.0, 56.0, 96.0, 64.0)


@dataclass(frozen=True)
class Query:
    """box, scores: what it answers. token: where it started; start: its start box (None = its box)."""

    box: Sequence[float]
    scores: Sequence[float]
    token: int = token_of(0, 7, 11)
    start: Sequence[float] | None = None


def image(boxes: Sequence[Sequence[float]], labels: Sequence[int]) -> tuple[ImageBatch, Target]:
    pixels = torch.randint(0, 255, (3, *SIZE), dtype=torch.uint8)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return ImageBatch.collate([pixels]), Target.of(corners, torch.tensor(labels, dtype=torch.long), SIZE, image_id=7)


def asked(
    boxes: Sequence[Sequence[float]],
    queries: Sequence[Query],
    *,
    labels: Sequence[int] | None = None,
    evidence: tuple[object, ...] = (),
    readout: Any = None,
) -> Observation:
    """A two-stage detector with two levels of strides 8 and 16 on an image of 64 x 96 pixels."""
    images, target = image(boxes, [0] * len(boxes) if labels is None else labels)
    final = Predictions(
        torch.tensor([[query.scores for query in queries]]).logit(eps=1e-7),
        _normalized([query.box for query in queries]),
    )
    index = torch.tensor([[query.token for query in queries]])
    tokens = _tokens()
    level = tokens.level_of_token(index)
    starts = _normalized([query.box if query.start is None else query.start for query in queries])
    output = DetectorOutput(final, token_index=index, level=level, evidence=evidence)
    return Observation(
        images, (target,), output, tokens, Places(starts, index, level), readout=readout or TopScoring(300)
    )


def learned(seen: Observation) -> Observation:
    """The same answers from queries without a place."""
    return replace(seen, output=replace(seen.output, token_index=None, level=None), places=None)


def answered(
    boxes: Sequence[Sequence[float]],
    answers: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    labels: Sequence[int] | None = None,
    nms_iou: float = 0.5,
    num_detections: int = 100,
    score_threshold: float = 0.05,
) -> Observation:
    """A dense detector of points, stride 8, whose first cells give these (box, scores); the others say nothing."""
    images, target = image(boxes, [0] * len(boxes) if labels is None else labels)
    rows, columns = SHAPES[0]
    logits = torch.full((rows * columns, 1, NUM_CLASSES), -20.0)
    distances = torch.ones(rows * columns, 1, 4)
    for cell, (box, scores) in enumerate(answers):
        x, y = (cell % columns + 0.5) * 8, (cell // columns + 0.5) * 8
        logits[cell, 0] = torch.tensor(scores).logit(eps=1e-7)
        distances[cell, 0] = torch.tensor([x - box[0], y - box[1], box[2] - x, box[3] - y])
    output = DenseOutput((LevelAnswers(logits, distances, None, SHAPES[0], 1),), (8,), SIZE, (SIZE,))
    readout = DenseReadout(PointBoxes(), score_threshold, nms_iou=nms_iou, num_detections=num_detections)
    detector = nn.Module()
    detector.readout, detector.classes = readout, Classes.numbered(NUM_CLASSES)  # type: ignore[assignment]
    detections = as_detector_output(detector, output)
    return Observation(images, (target,), detections, dense=DenseSight(output, None), readout=readout)


def _normalized(boxes: Sequence[Sequence[float]]) -> torch.Tensor:
    height, width = SIZE
    corners = torch.tensor([boxes], dtype=torch.float32).reshape(1, -1, 4)
    return xyxy_to_cxcywh(corners) / torch.tensor([width, height, width, height])


def _tokens() -> Tokens:
    number = sum(rows * columns for rows, columns in SHAPES)
    nothing = torch.zeros(1, number, 1)
    return Tokens(nothing, nothing, nothing[..., 0].bool(), torch.ones(1, 2, 2), SHAPES, STRIDES)
