"""A box as a correction of another one, or as four distances from a point: what dense heads learn in place of corners.

Deltas: Girshick et al., "Rich Feature Hierarchies" (R-CNN), 2014, appendix C. Distances: Tian et al., "FCOS: Fully
Convolutional One-Stage Object Detection", 2019, equation 1. All in pixels of the network input.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.boxes.precision import full_precision
from smidgen.structures import send

CoordinateWeights: TypeAlias = tuple[float, float, float, float]

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""A decoded side is at most 62.5 times the anchor's: exp of an untrained output must not overflow."""


def encode_deltas(
    anchors_xyxy: Float[Tensor, "*shape 4"],
    boxes_xyxy: Float[Tensor, "*shape 4"],
    weights: CoordinateWeights = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "*shape 4"]:
    """(dx, dy) = shift of the center in sizes of the anchor, (dw, dh) = log of the ratio of the sizes.

    weights: factors of (dx, dy, dw, dh); the second stage of Faster R-CNN has (10, 10, 5, 5). Boxes without extent have
    no finite deltas; here a side counts as at least 1e-6 pixels.
    """
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors_xyxy)
    centers, sizes = _centers_and_sizes(boxes_xyxy)
    shift = (centers - anchor_centers) / anchor_sizes
    deltas = torch.cat([shift, (sizes / anchor_sizes).log()], dim=-1)
    return deltas if weights == (1.0, 1.0, 1.0, 1.0) else deltas * _as_tensor(weights, deltas)


def decode_deltas(
    anchors_xyxy: Float[Tensor, "*shape 4"],
    deltas: Float[Tensor, "*shape 4"],
    weights: CoordinateWeights = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "*shape 4"]:
    """The boxes, in xyxy; dw and dh are cut at log(1000 / 16)."""
    deltas = full_precision(deltas)
    if weights != (1.0, 1.0, 1.0, 1.0):
        deltas = deltas / _as_tensor(weights, deltas)
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors_xyxy)
    centers = anchor_centers + deltas[..., :2] * anchor_sizes
    half = anchor_sizes * deltas[..., 2:].clamp(max=LARGEST_LOG_SCALE).exp() / 2
    return torch.cat([centers - half, centers + half], dim=-1)


def encode_distances(
    points: Float[Tensor, "*shape 2"], boxes_xyxy: Float[Tensor, "*shape 4"]
) -> Float[Tensor, "*shape 4"]:
    """From each point to the left, top, right and bottom side; negative beyond a side."""
    points, boxes_xyxy = full_precision(points), full_precision(boxes_xyxy)
    return torch.cat([points - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points], dim=-1)


def decode_distances(
    points: Float[Tensor, "*shape 2"], distances: Float[Tensor, "*shape 4"]
) -> Float[Tensor, "*shape 4"]:
    """The box around each point whose sides lie at these distances (left, top, right, bottom), in xyxy."""
    points, distances = full_precision(points), full_precision(distances)
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def _centers_and_sizes(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    first, last = full_precision(boxes_xyxy).chunk(2, dim=-1)
    return (first + last) / 2, (last - first).clamp(min=1e-6)


def _as_tensor(weights: CoordinateWeights, like: Tensor) -> Tensor:
    return send(torch.tensor(weights, dtype=like.dtype), like.device)
