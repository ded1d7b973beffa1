"""A point answers for the smallest object around whose center it lies, on the level made for the object's size.

Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, section 3.2; center sampling from its
journal version ("FCOS: A Simple and Strong Anchor-free Object Detector", 2020) and the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.boxes import area
from smidgen.boxes.answer_matches import BACKGROUND, LEFT_OUT, AnswerMatches
from smidgen.boxes.box_coding import encode_distances
from smidgen.structures import Target

P2_TO_P7_PX = (32.0, 64.0, 128.0, 256.0, 512.0, math.inf)
P3_TO_P7_PX = P2_TO_P7_PX[1:]

PAIRS_AT_ONCE = 2**20
"""16 MB for the four distances of all points to all objects, which at once could take gigabytes."""


@dataclass(frozen=True, kw_only=True)
class CenterSampling:
    """limits_px: per level, finest first, the largest distance from a point to a side of its object; the smallest is
    the level before's, 0 on the finest (both ends included). radius: half the side of the square around an object's
    center in which its points lie, in strides of the level, and never beyond the object; None = anywhere in the object.
    """

    limits_px: tuple[float, ...] = P2_TO_P7_PX
    radius: float | None = 1.5

    @torch.no_grad()
    def __call__(self, points: Sequence[Float[Tensor, "_ 2"]], strides: Sequence[int], target: Target) -> AnswerMatches:
        """Matches of one image's points, level after level, in pixels of the network input. A point in an ignore
        region that answers for no object is left out.
        """
        if len(self.limits_px) != len(strides):
            raise ValueError(
                f"expected one size limit for each of {len(strides)} levels, got {self.limits_px}; "
                "change the limits_px of the center sampling"
            )
        smallest = (0.0, *self.limits_px[:-1])
        at_once = max(1, PAIRS_AT_ONCE // max(1, len(target), len(target.ignore)))
        owners = [
            self._owner(some, stride, (low, high), target)
            for level, stride, low, high in zip(points, strides, smallest, self.limits_px, strict=True)
            for some in level.split(at_once)
        ]
        return AnswerMatches(torch.cat(owners))

    def _owner(
        self, points: Float[Tensor, "n 2"], stride: int, range_px: tuple[float, float], target: Target
    ) -> Int[Tensor, " n"]:
        background = _background(points, target.ignore)
        if len(target) == 0:
            return background
        to_sides = _to_sides(points, target.boxes_xyxy)
        farthest = to_sides.amax(dim=-1)
        candidate = (to_sides.amin(dim=-1) > 0) & (farthest >= range_px[0]) & (farthest <= range_px[1])
        if self.radius is not None:
            candidate &= _to_centers(points, target.boxes_xyxy) < self.radius * stride
        areas = area(target.boxes_xyxy)[:, None].masked_fill(~candidate, math.inf)
        least, owner = areas.min(dim=0)
        return torch.where(least.isfinite(), owner, background)


def _background(points: Float[Tensor, "n 2"], ignore: Float[Tensor, "R 4"]) -> Int[Tensor, " n"]:
    inside = (_to_sides(points, ignore) > 0).all(dim=-1).any(dim=0)
    return torch.full_like(inside, BACKGROUND, dtype=torch.long).masked_fill(inside, LEFT_OUT)


def _to_sides(points: Float[Tensor, "n 2"], boxes_xyxy: Float[Tensor, "M 4"]) -> Float[Tensor, "M n 4"]:
    return encode_distances(points.expand(len(boxes_xyxy), -1, -1), boxes_xyxy[:, None].expand(-1, len(points), -1))


def _to_centers(points: Float[Tensor, "n 2"], boxes_xyxy: Float[Tensor, "M 4"]) -> Float[Tensor, "M n"]:
    """Distance along the axis along which it is larger."""
    centers = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    return (points - centers[:, None]).abs().amax(dim=-1)
