"""Every level learns where objects are: close to 1 at an object's center, falling towards its sides, 0 outside.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024,
section 3.3 (scale-independent salience supervision). The official code, which the default follows, differs twice: the
confidence is 1 - sqrt((dx/w)^2 + (dy/h)^2), 0.29 at corners where the paper's formula has 0; and a level is taught only
objects of its sizes. `NO_LIMITS` is what the paper's text says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.boxes import full_precision
from smidgen.structures import DetectorOutput, Target, evidence_of
from smidgen.tokens.salience_filtering import SalienceMaps

OFFICIAL_LIMITS_PX = (64.0, 128.0, 256.0, 99999.0)
NO_LIMITS = None

# Cells x objects that are compared at a time; more would only cost memory.
_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True)
class SalienceLoss:
    """Focal loss with soft targets on the salience maps, named "salience"; {} where the output has none.

    limits_px: per level, finest first, the largest distance (pixels of the network input) from a cell to a side of a
    box that contains it, for the level to learn it; the smallest is the level before's. None = every level learns every
    object. alpha, gamma: of the focal loss. mask_padding: padded cells are left out (officially they are background).
    """

    limits_px: tuple[float, ...] | None = OFFICIAL_LIMITS_PX
    alpha: float = 0.25
    gamma: float = 2.0
    mask_padding: bool = True

    def __call__(
        self, output: DetectorOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Summed over cells, divided by the number of cells of this process that lie in an object."""
        maps = evidence_of(output.evidence, SalienceMaps)
        if maps is None:
            return {}
        wanted = self.targets(maps, targets)
        logits = torch.cat([full_precision(level).flatten(1) for level in maps.logits], dim=1)
        loss = soft_focal_loss(logits, wanted, self.alpha, self.gamma)
        if self.mask_padding:
            loss = loss.masked_fill(_padding(maps, targets), 0.0)
        return {"salience": loss.sum() / (wanted > 0).sum().clamp(min=1)}

    def targets(self, maps: SalienceMaps, targets: Sequence[Target]) -> Float[Tensor, "B N"]:
        """What the maps should say, level after level, in [0, 1]."""
        limits = _ranges(self.limits_px, len(maps.logits))
        by_image = [
            torch.cat(
                [
                    level_targets(
                        target.boxes_xyxy, (level.shape[-2], level.shape[-1]), maps.canvas_hw, limit
                    ).flatten()
                    for level, limit in zip(maps.logits, limits, strict=True)
                ]
            )
            for target in targets
        ]
        return torch.stack(by_image)


def soft_focal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Cross entropy weighted by (1 - alpha) p^gamma (1 - t) + alpha (1 - p)^gamma t; gradient flows through both."""
    probability = logits.sigmoid()
    weight = (1 - alpha) * probability**gamma * (1 - targets) + alpha * targets * (1 - probability) ** gamma
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight


@torch.no_grad()
def level_targets(
    boxes_xyxy: Float[Tensor, "M 4"],
    shape: tuple[int, int],
    canvas_hw: tuple[int, int],
    limit_px: tuple[float, float] = (-1.0, math.inf),
) -> Float[Tensor, "H W"]:
    """Confidence of each cell of one level for the best box that strictly contains its center, 0 elsewhere.

    boxes_xyxy: pixels of the network input. limit_px: at least one containing box must have its largest distance to a
    side in this range, the lower end excluded; the confidence is still the maximum over all containing boxes.
    """
    centers = _centers(shape, canvas_hw, boxes_xyxy)
    confidence = centers.new_zeros(len(centers))
    if len(boxes_xyxy) == 0:
        return confidence.unflatten(0, shape)
    taught = torch.zeros_like(confidence, dtype=torch.bool)
    for some in boxes_xyxy.split(max(1, _PAIRS_AT_ONCE // len(centers))):
        best, within = _confidence(centers, some, limit_px)
        confidence, taught = torch.maximum(confidence, best), taught | within
    return (confidence * taught).unflatten(0, shape)


def _confidence(
    centers: Float[Tensor, "n 2"], boxes_xyxy: Float[Tensor, "m 4"], limit_px: tuple[float, float]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    to_sides = torch.cat([centers[:, None] - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - centers[:, None]], dim=-1)
    inside = to_sides.amin(dim=-1) > 0
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    offset = (centers[:, None] - (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2) / size
    confidence = (1 - offset.square().sum(dim=-1).sqrt()).masked_fill(~inside, 0.0)
    farthest = to_sides.amax(dim=-1)
    within = inside & (farthest > limit_px[0]) & (farthest <= limit_px[1])
    return confidence.amax(dim=1), within.any(dim=1)


def _centers(shape: tuple[int, int], canvas_hw: tuple[int, int], like: Tensor) -> Float[Tensor, "n 2"]:
    """Centers (x, y) of a level's cells in pixels; cells may span a fraction of a pixel's multiple."""
    y, x = (
        (torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) * (length / cells)
        for cells, length in zip(shape, canvas_hw, strict=True)
    )
    return torch.stack([x.expand(shape), y[:, None].expand(shape)], dim=-1).flatten(0, 1)


def _ranges(limits_px: tuple[float, ...] | None, num_levels: int) -> list[tuple[float, float]]:
    if limits_px is None:
        return [(-1.0, math.inf)] * num_levels
    if len(limits_px) != num_levels:
        raise ValueError(
            f"expected one salience limit for each of {num_levels} levels, got {limits_px}; "
            "change model.level_limits_px"
        )
    return list(zip((-1.0, *limits_px[:-1]), limits_px, strict=True))


def _padding(maps: SalienceMaps, targets: Sequence[Target]) -> Bool[Tensor, "B N"]:
    """True at cells whose first pixel lies beyond the image, as masks are sampled in `FeaturePyramid`."""
    by_image = []
    for target in targets:
        levels = []
        for level in maps.logits:
            height, width = (
                torch.arange(cells, device=level.device) * length // cells < size
                for cells, length, size in zip(level.shape[-2:], maps.canvas_hw, target.size_hw, strict=True)
            )
            levels.append(~(height[:, None] & width).flatten())
        by_image.append(torch.cat(levels))
    return torch.stack(by_image)
