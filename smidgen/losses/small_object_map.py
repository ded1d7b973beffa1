"""A map for each level learns where a small object is near, so that finer levels are computed only there.

Yang et al., "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small Object Detection", CVPR 2022,
section 3.3, equations 2, 3 and 6. The official code, which the defaults follow, differs from the text: a cell is
positive where the center of its nearest small object is closer than that object's own size (`radius="threshold"` is the
paper's: closer than the level's threshold s_l); only P3 and P4 are taught; the loss is the mean over all cells times
10, without the level's weight. Both let tiny objects fall between the centers of cells, the code more so: of objects of
6 px more than half have no positive cell on P4, where the cascade starts, and are then taught to nobody; `own_cell`
gives each its cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from smidgen.boxes import area, full_precision, xyxy_to_cxcywh
from smidgen.boxes.anchors import cell_centers
from smidgen.structures import DenseOutput, Target

Radius: TypeAlias = Literal["object", "threshold"]


@dataclass(frozen=True, kw_only=True)
class SmallObjectLoss:
    """Focal loss of the query maps of an output, averaged over all cells of all images and summed over levels, named
    "small_object".

    limit_in_strides: s_l of a level in its strides; an object smaller than s_l is small there. 4 is RetinaNet's
    smallest anchor and the lower end of FCOS's range, 8 the anchor of a region proposal network. radius, coefficient,
    own_cell: as in `small_object_map`. gamma: 1.2 on COCO, 1.3 on VisDrone. level_weights: a factor for each map, in
    the output's order (None = 1). Cells with their center in an ignore region teach only objects.
    """

    limit_in_strides: float = 4.0
    radius: Radius = "object"
    coefficient: float = 1.0
    own_cell: bool = False
    alpha: float = 0.25
    gamma: float = 1.2
    level_weights: tuple[float, ...] | None = None

    def __call__(self, output: DenseOutput, targets: Sequence[Target], progress: float) -> dict[str, Float[Tensor, ""]]:
        """{} where the output has no query maps."""
        if not output.query_logits:
            return {}
        weights = (1.0,) * len(output.query_logits) if self.level_weights is None else self.level_weights
        if len(weights) != len(output.query_logits):
            raise ValueError(f"expected one weight for each of {len(output.query_logits)} query maps, got {weights}")
        losses = [
            weight * self._of_level(logits, output.strides[level], targets)
            for weight, (level, logits) in zip(weights, output.query_logits, strict=True)
        ]
        return {"small_object": torch.stack(losses).sum()}

    def targets(self, shape: tuple[int, int], stride: int, targets: Sequence[Target]) -> Bool[Tensor, "B H W"]:
        """What the map of a level should say of each image."""
        limit_px = (0.0, self.limit_in_strides * stride)
        maps = [
            small_object_map(
                target.boxes_xyxy, shape, stride, limit_px, self.radius, self.coefficient, own_cell=self.own_cell
            )
            for target in targets
        ]
        return torch.stack(maps)

    def _of_level(self, logits: Float[Tensor, "B H W"], stride: int, targets: Sequence[Target]) -> Float[Tensor, ""]:
        shape = (logits.shape[1], logits.shape[2])
        wanted = self.targets(shape, stride, targets)
        logits = full_precision(logits)
        loss: Tensor = sigmoid_focal_loss(logits, wanted.to(logits.dtype), self.alpha, self.gamma)
        if any(len(target.ignore) for target in targets):
            loss = loss.masked_fill(_in_ignore_regions(shape, stride, targets) & ~wanted, 0.0)
        return loss.mean()


@torch.no_grad()
def small_object_map(
    boxes_xyxy: Float[Tensor, "M 4"],
    shape: tuple[int, int],
    stride: int,
    limit_px: tuple[float, float],
    radius: Radius = "object",
    coefficient: float = 1.0,
    *,
    own_cell: bool = False,
) -> Bool[Tensor, "H W"]:
    """True at cells whose center is less than a radius away from the center of the nearest small object (of equally
    near ones the first).

    boxes_xyxy: pixels of the network input. limit_px: small is an object whose size, sqrt(width * height), is at least
    the first and below the second. radius: of the "object" = its size, "threshold" = the upper limit; both times
    `coefficient`. With the object's own size a large object does not reach cells to which a tiny one is nearer.
    own_cell: whether the cell that holds the center of a small object is True however small the object (not official).
    """
    if len(boxes_xyxy) == 0:
        return torch.zeros(shape, dtype=torch.bool, device=boxes_xyxy.device)
    sizes = area(boxes_xyxy).clamp(min=0).sqrt()
    small = (sizes >= limit_px[0]) & (sizes < limit_px[1])
    points = cell_centers(shape, stride, device=boxes_xyxy.device).to(sizes.dtype)
    objects = xyxy_to_cxcywh(boxes_xyxy)[:, :2]
    # The exact form: the one by matrix products is off by pixels far from the origin.
    distance = torch.cdist(points, objects, compute_mode="donot_use_mm_for_euclid_dist")
    nearest, which = distance.masked_fill(~small, math.inf).min(dim=1)
    reach = sizes[which] if radius == "object" else torch.full_like(nearest, limit_px[1])
    within: Tensor = (nearest < reach * coefficient).unflatten(0, shape)
    return within | _own_cells(objects, small, shape, stride) if own_cell else within


def _own_cells(
    centers: Float[Tensor, "M 2"], small: Bool[Tensor, " M"], shape: tuple[int, int], stride: int
) -> Bool[Tensor, "H W"]:
    """True at cells that hold the center of a small object."""
    column, row = (centers / stride).floor().long().unbind(1)
    place = row.clamp(0, shape[0] - 1), column.clamp(0, shape[1] - 1)
    return centers.new_zeros(shape).index_put(place, small.to(centers.dtype), accumulate=True) > 0


def _in_ignore_regions(shape: tuple[int, int], stride: int, targets: Sequence[Target]) -> Bool[Tensor, "B H W"]:
    maps = []
    for target in targets:
        points = cell_centers(shape, stride, device=target.ignore.device)
        inside = (points[:, None] >= target.ignore[:, :2]) & (points[:, None] <= target.ignore[:, 2:])
        maps.append(inside.all(dim=-1).any(dim=-1).unflatten(0, shape))
    return torch.stack(maps)
