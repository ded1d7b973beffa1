"""Every level learns where objects are: close to 1 at an object's center, falling towards its sides, 0 outside.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024,
section 3.3 (scale-independent salience supervision). The official code, which the default follows, differs twice: the
confidence is 1 - sqrt((dx/w)^2 + (dy/h)^2), 0.29 at corners where the paper's formula has 0 (`confidence="paper"`); and
a level is taught only objects of its sizes (`limits_px=None` is what the paper's text says).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.boxes import full_precision
from smidgen.nn.process_mean import process_mean
from smidgen.structures import DetectorOutput, Target, evidence_of, send
from smidgen.tokens.salience_filtering import SalienceMaps

Confidence: TypeAlias = Literal["code", "paper"]

PAIRS_AT_ONCE = 2**21
"""Boxes x cells that are looked at together on a GPU: 8 MB for each number about a pair."""

OFFICIAL_LIMITS_PX = (64.0, 128.0, 256.0, 99999.0)


@dataclass(frozen=True, kw_only=True)
class SalienceLoss:
    """Focal loss with soft targets on the salience maps, named "salience"; {} where the output has none.

    limits_px: per level, finest first, the largest distance (pixels of the network input) from a cell to a side of a
    box that contains it, for the level to learn it; the smallest is the level before's. None = every level learns every
    object. confidence: by the official "code" or the "paper". alpha, gamma: of the focal loss. mask_padding: padded
    cells are left out (officially they are background); cells of ignore regions always are, unless in an object.
    per_process: divide by this process's count of taught cells (official), not by the mean over processes.
    """

    limits_px: tuple[float, ...] | None = OFFICIAL_LIMITS_PX
    confidence: Confidence = "code"
    alpha: float = 0.25
    gamma: float = 2.0
    mask_padding: bool = True
    per_process: bool = False

    def __call__(
        self, output: DetectorOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Summed over cells, divided by the number of cells that lie in an object, at least 1."""
        maps = evidence_of(output.evidence, SalienceMaps)
        if maps is None:
            return {}
        wanted = self.targets(maps, targets)
        logits = torch.cat([full_precision(level).flatten(1) for level in maps.logits], dim=1)
        loss = soft_focal_loss(logits, wanted, self.alpha, self.gamma)
        if self.mask_padding:
            loss = loss.masked_fill(_padding(maps, targets), 0.0)
        if any(len(target.ignore) for target in targets):
            loss = loss.masked_fill(self._ignored(maps, targets) & (wanted == 0), 0.0)
        return {"salience": loss.sum() / self._normalizer(wanted)}

    def targets(self, maps: SalienceMaps, targets: Sequence[Target]) -> Float[Tensor, "B N"]:
        """What the maps should say, level after level, in [0, 1]."""
        limits = _ranges(self.limits_px, len(maps.logits))
        boxes = [target.boxes_xyxy for target in targets]
        return _of_all(maps, boxes, limits, self.confidence)

    def _ignored(self, maps: SalienceMaps, targets: Sequence[Target]) -> Bool[Tensor, "B N"]:
        everything = _ranges(None, len(maps.logits))
        return _of_all(maps, [target.ignore for target in targets], everything, "code") > 0

    def _normalizer(self, wanted: Float[Tensor, "B N"]) -> Float[Tensor, ""]:
        count = (wanted > 0).sum().float()
        return (count if self.per_process else process_mean(count)).clamp(min=1)


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
    confidence: Confidence = "code",
) -> Float[Tensor, "H W"]:
    """Confidence of each cell of one level for the best box that strictly contains its center, 0 elsewhere.

    boxes_xyxy: pixels of the network input. limit_px: at least one containing box must have its largest distance to a
    side in this range, the lower end excluded; the confidence is still the maximum over all containing boxes.
    """
    best = boxes_xyxy.new_zeros(shape[0] * shape[1])
    taught = torch.zeros_like(best)
    on_host = boxes_xyxy.device.type == "cpu"
    at_once = max(1, len(boxes_xyxy) if on_host else PAIRS_AT_ONCE // len(best))
    for some in boxes_xyxy.split(at_once) if len(boxes_xyxy) else ():
        box, cell = _cells_in_boxes(some, shape, canvas_hw) if on_host else _all_cells(some, shape)
        centers = (torch.stack([cell % shape[1], cell // shape[1]], dim=-1) + 0.5) * _cell_wh(some, shape, canvas_hw)
        corners = some[box]
        to_sides = torch.cat([centers - corners[:, :2], corners[:, 2:] - centers], dim=-1)
        inside, farthest = to_sides.amin(dim=-1) > 0, to_sides.amax(dim=-1)
        within = inside & (farthest > limit_px[0]) & (farthest <= limit_px[1])
        value = _confidence(centers, corners, confidence).masked_fill(~inside, 0.0)
        best = best.scatter_reduce(0, cell, value, "amax")
        taught = taught.scatter_reduce(0, cell, within.to(taught.dtype), "amax")
    return (best * taught).unflatten(0, shape)


def _confidence(
    centers: Float[Tensor, "P 2"], boxes_xyxy: Float[Tensor, "P 4"], confidence: Confidence
) -> Float[Tensor, " P"]:
    offset = (centers - (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2) / (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])
    distance = offset.square().sum(dim=-1)
    return 1 - (2 * distance if confidence == "paper" else distance).sqrt()


def _cells_in_boxes(
    boxes_xyxy: Float[Tensor, "M 4"], shape: tuple[int, int], canvas_hw: tuple[int, int]
) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Each box with each cell that its window covers (and perhaps a cell more): box and cell. Cells may span a fraction
    of a pixel's multiple. Small objects have few cells, however large the map.
    """
    cell_wh = _cell_wh(boxes_xyxy, shape, canvas_hw)
    first = (boxes_xyxy[:, :2] / cell_wh - 0.5).floor().clamp(min=0)
    last = (boxes_xyxy[:, 2:] / cell_wh - 0.5).ceil().minimum(boxes_xyxy.new_tensor([shape[1] - 1, shape[0] - 1]))
    extent = (last - first + 1).clamp(min=0).long()
    count = extent.prod(dim=1)
    box = torch.arange(len(boxes_xyxy), device=boxes_xyxy.device).repeat_interleave(count)
    number = torch.arange(len(box), device=boxes_xyxy.device) - (count.cumsum(0) - count)[box]
    column = first[box, 0].long() + number % extent[box, 0]
    row = first[box, 1].long() + number // extent[box, 0]
    return box, row * shape[1] + column


def _all_cells(boxes_xyxy: Float[Tensor, "M 4"], shape: tuple[int, int]) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Each box with each cell: how many cells the boxes cover a GPU would have to be asked, and waited for."""
    number = torch.arange(len(boxes_xyxy) * shape[0] * shape[1], device=boxes_xyxy.device)
    return number // (shape[0] * shape[1]), number % (shape[0] * shape[1])


def _cell_wh(like: Tensor, shape: tuple[int, int], canvas_hw: tuple[int, int]) -> Float[Tensor, " 2"]:
    """Width and height of a cell in pixels, on the device of `like`."""
    return send(torch.tensor([canvas_hw[1] / shape[1], canvas_hw[0] / shape[0]], dtype=like.dtype), like.device)


def _of_all(
    maps: SalienceMaps,
    boxes_xyxy: Sequence[Float[Tensor, "_ 4"]],
    limits: Sequence[tuple[float, float]],
    confidence: Confidence,
) -> Float[Tensor, "B N"]:
    """Targets of every image and level."""
    levels = [((level.shape[-2], level.shape[-1]), limit) for level, limit in zip(maps.logits, limits, strict=True)]
    by_image = [
        torch.cat([level_targets(boxes, shape, maps.canvas_hw, limit, confidence).flatten() for shape, limit in levels])
        for boxes in boxes_xyxy
    ]
    return torch.stack(by_image)


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
