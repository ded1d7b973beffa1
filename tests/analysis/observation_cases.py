"""Batches as models would leave them, made by hand: two images on one canvas, two levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from smidgen.analysis.observation import Observation
from smidgen.boxes import xyxy_to_cxcywh
from smidgen.structures import DetectorOutput, ImageBatch, Places, Predictions, Target, Tokens

STRIDES = (8, 16)
SHAPES = ((8, 12), (4, 6))
SIZES = ((64, 96), (32, 48))  # height, width; the first fills the canvas


def token_of(level: int, row: int, column: int) -> int:
    """Index of a cell in the flattened pyramid."""
    return level * SHAPES[0][0] * SHAPES[0][1] + row * SHAPES[level][1] + column


def observation(
    *,
    boxes: Sequence[Sequence[float]] = (),
    query_tokens: Sequence[int] = (0, 1),
    query_boxes: Sequence[Sequence[float]] = ((0.0, 0.0, 8.0, 8.0), (8.0, 0.0, 16.0, 8.0)),
    query_padding: Sequence[bool] | None = None,
    evidence: tuple[object, ...] = (),
) -> Observation:
    """`boxes` are the objects of image 0 (image 1 has none); both images have the same queries. Pixels of image 0."""
    images = ImageBatch.collate([torch.full((3, *size), 90, dtype=torch.uint8) for size in SIZES])
    targets = tuple(
        Target.of(
            torch.tensor(own, dtype=torch.float32).reshape(-1, 4),
            torch.zeros(len(own), dtype=torch.long),
            size,
            image_id=number,
        )
        for number, (own, size) in enumerate(zip((list(boxes), []), SIZES, strict=True))
    )
    index = torch.tensor([list(query_tokens)] * 2)
    reference = normalized(query_boxes).expand(2, -1, -1)
    padding = None if query_padding is None else torch.tensor([list(query_padding)] * 2)
    tokens = flattened(images)
    level = tokens.level_of_token(index)
    final = Predictions(torch.zeros(2, index.shape[1], 1), reference, padding)
    output = DetectorOutput(final, token_index=index, level=level, evidence=evidence)
    return Observation(images, targets, output, tokens, Places(reference, index, level, padding=padding))


def normalized(boxes_xyxy: Sequence[Sequence[float]]) -> torch.Tensor:
    height, width = SIZES[0]
    return xyxy_to_cxcywh(torch.tensor(boxes_xyxy)) / torch.tensor([width, height, width, height])


def flattened(images: ImageBatch) -> Tokens:
    """Tokens without features; image 1 shows in half of each side of the canvas."""
    masks = [images.padding[:, ::stride, ::stride].flatten(1) for stride in STRIDES]
    padding = torch.cat(masks, dim=1)
    nothing = torch.zeros(2, padding.shape[1], 1)
    share = torch.tensor([[[1.0, 1.0]] * 2, [[0.5, 0.5]] * 2])
    return Tokens(nothing, nothing, padding, share, SHAPES, STRIDES)
