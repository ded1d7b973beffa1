"""The query map of a sparse finest level learns where small objects are.

Yang, Huang and Wang, "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small Object Detection", CVPR
2022, section 3.2: a cell is positive if it is near the center of a small object, under focal loss. As in the official
code, and unlike equation 3, near means nearer than the object's own scale sqrt(w h). Differences from it: the cell that
an object's center lies in is always positive (officially objects smaller than 0.7 cells can fall between the centers of
cells and are then taught to nobody); padded cells and ignore regions are left out of the loss and of its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from smidgen.boxes import full_precision
from smidgen.structures import DetectorOutput, Target, evidence_of
from smidgen.tokens.sparse_finest_level import FinestLevel


@dataclass(frozen=True, kw_only=True)
class FinestLevelLoss:
    """An evidence term named "finest_level"; {} where the output has no query map.

    largest_px: objects of a smaller sqrt(area), in pixels of the network input, are small (32 is QueryDet's number for
    stride 8). radius: how near a cell must be, in scales of the object. own_cell: an object's own cell is positive
    however small the object (False = official). alpha, gamma: of the focal loss (QueryDet's on COCO).
    """

    largest_px: float = 32.0
    radius: float = 1.0
    own_cell: bool = True
    alpha: float = 0.25
    gamma: float = 1.2

    def __call__(
        self, output: DetectorOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Mean over the cells that count."""
        level = evidence_of(output.evidence, FinestLevel)
        if level is None:
            return {}
        wanted = self.targets(level, targets)
        left_out = level.padding | (_in_ignore_regions(level, targets) & ~wanted)
        loss = focal_loss(full_precision(level.logits), wanted, self.alpha, self.gamma).masked_fill(left_out, 0.0)
        return {"finest_level": loss.sum() / (~left_out).sum().clamp(min=1)}

    @torch.no_grad()
    def targets(self, level: FinestLevel, targets: Sequence[Target]) -> Bool[Tensor, "B h w"]:
        """Where the query map should fire."""
        centers, cell_wh = _cells(level)
        return torch.stack([self._of_image(target.boxes_xyxy, centers, cell_wh) for target in targets])

    def _of_image(
        self, boxes_xyxy: Float[Tensor, "M 4"], centers: Float[Tensor, "h w 2"], cell_wh: Float[Tensor, " 2"]
    ) -> Bool[Tensor, "h w"]:
        """By the nearest small object's scale alone: farther ones have no say, as in the official code."""
        if len(boxes_xyxy) == 0:
            return torch.zeros(centers.shape[:2], dtype=torch.bool, device=centers.device)
        objects, scale = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, _scale(boxes_xyxy)
        small = scale < self.largest_px
        offset = (centers.flatten(0, 1)[:, None] - objects).abs()
        distance = offset.square().sum(dim=-1).sqrt().masked_fill(~small, torch.inf)
        nearest = distance.min(dim=1)
        wanted = nearest.values < self.radius * scale[nearest.indices]
        if self.own_cell:
            wanted = wanted | ((offset <= cell_wh / 2).all(dim=-1) & small).any(dim=1)
        return wanted.view(centers.shape[:2])


def focal_loss(
    logits: Float[Tensor, "*shape"], wanted: Bool[Tensor, "*shape"], alpha: float, gamma: float
) -> Float[Tensor, "*shape"]:
    """Lin et al., "Focal Loss for Dense Object Detection", 2017, with the weights alpha and 1 - alpha."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none")
    probability = logits.sigmoid()
    wrong = torch.where(wanted, 1 - probability, probability)
    return torch.where(wanted, alpha, 1 - alpha) * cross_entropy * wrong**gamma


def _scale(boxes_xyxy: Float[Tensor, "M 4"]) -> Float[Tensor, " M"]:
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clamp(min=0).prod(dim=1).sqrt()


def _cells(level: FinestLevel) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, " 2"]]:
    """Centers (x, y) of the map's cells and their width and height, in pixels of the network input."""
    (rows, columns), (height, width) = level.logits.shape[-2:], level.canvas_hw
    device = level.logits.device
    x = (torch.arange(columns, device=device) + 0.5) * (width / columns)
    y = (torch.arange(rows, device=device) + 0.5) * (height / rows)
    cell_wh = torch.stack([x[0], y[0]]) * 2
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1), cell_wh


def _in_ignore_regions(level: FinestLevel, targets: Sequence[Target]) -> Bool[Tensor, "B h w"]:
    """Cells whose center lies in a region."""
    centers = _cells(level)[0][:, :, None]
    inside = [
        ((centers > target.ignore[:, :2]) & (centers < target.ignore[:, 2:])).all(dim=-1).any(dim=-1)
        for target in targets
    ]
    return torch.stack(inside)
