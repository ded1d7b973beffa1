"""The second stage: each proposed region is read from the level that suits its size, classified and corrected.

Ren et al., "Faster R-CNN", 2015, with the levels of Lin et al., "Feature Pyramid Networks", CVPR 2017, equation 1, and
RoIAlign of He et al., "Mask R-CNN", 2017 (torchvision's, with the half-pixel shift that later codes have). QueryDet
(Yang et al., CVPR 2022, table 9) leaves this stage as it is and hands it fewer regions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

from smidgen.boxes import area, full_precision
from smidgen.nn.overwriting import rectified
from smidgen.nn.shapes_only import has_values
from smidgen.structures import FeaturePyramid
from smidgen.structures.regions import RegionAnswers, Regions, RegionTruth

CANONICAL_SIDE_PX, CANONICAL_STRIDE = 224.0, 16
"""A region of ImageNet's size is read at the stride of its network's last but one stage."""


class RegionHead(nn.Module):
    """RoIAlign of `resolution` x `resolution` bins, two linear layers, a softmax classifier and deltas for each class.

    strides: of the levels that regions are read from, finest first; the pyramid may have more, coarser ones.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        strides: Sequence[int] = (4, 8, 16, 32),
        *,
        hidden: int = 1024,
        resolution: int = 7,
    ) -> None:
        super().__init__()
        self.strides, self.resolution, self.num_classes = tuple(strides), resolution, num_classes
        self.first, self.second = nn.Linear(width * resolution**2, hidden), nn.Linear(hidden, hidden)
        self.classes, self.deltas = nn.Linear(hidden, num_classes + 1), nn.Linear(hidden, 4 * num_classes)
        self._initialize()

    def _initialize(self) -> None:
        """As detectron2: hidden layers uniform in +-sqrt(3 / inputs), outputs almost zero."""
        for layer in (self.first, self.second):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.first, self.second, self.classes, self.deltas):
            nn.init.zeros_(layer.bias)

    def forward(self, pyramid: FeaturePyramid, regions: Regions, truth: RegionTruth | None = None) -> RegionAnswers:
        """Class logits and deltas of every region; `truth` is handed on to the losses."""
        pooled = self._pooled(pyramid, regions).flatten(1).to(self.first.weight.dtype)
        hidden = rectified(self.first(pooled))
        hidden = rectified(self.second(hidden))
        return RegionAnswers(regions, self.classes(hidden), self.deltas(hidden).unflatten(1, (-1, 4)), truth)

    def _pooled(self, pyramid: FeaturePyramid, regions: Regions) -> Float[Tensor, "R C bins bins"]:
        boxes = torch.cat([regions.image[:, None].to(regions.boxes_xyxy.dtype), regions.boxes_xyxy], dim=1)
        level = level_of(regions.boxes_xyxy, self.strides)
        if not has_values(boxes):
            return self._read_everywhere(pyramid, boxes, level)
        rows = [(level == index).nonzero()[:, 0] for index in range(len(self.strides))]
        pooled = torch.cat([self._read(pyramid, index, boxes[chosen]) for index, chosen in enumerate(rows)])
        return pooled[torch.cat(rows).argsort()]

    def _read_everywhere(
        self, pyramid: FeaturePyramid, boxes: Float[Tensor, "r 5"], level: Int[Tensor, " r"]
    ) -> Tensor:
        """The same where no list may be as long as a level's share: every level reads every region, an empty one in
        place of those of other levels.
        """
        pooled = []
        for index in range(len(self.strides)):
            own = (level == index)[:, None]
            read = self._read(pyramid, index, torch.cat([boxes[:, :1], boxes[:, 1:] * own], dim=1))
            pooled.append(read.where(own[:, :, None, None], 0.0))
        return torch.stack(pooled).sum(dim=0)

    def _read(self, pyramid: FeaturePyramid, level: int, boxes: Float[Tensor, "r 5"]) -> Tensor:
        # RoIAlign has no half precision on every device, and positions need the digits.
        features = full_precision(pyramid.levels[level])
        pooled: Tensor = roi_align(
            features, boxes.to(features.dtype), self.resolution, 1 / self.strides[level], sampling_ratio=0, aligned=True
        )
        return pooled


def level_of(boxes_xyxy: Float[Tensor, "R 4"], strides: Sequence[int]) -> Int[Tensor, " R"]:
    """Index of the level for each box: the stride is proportional to the box's side, rounded down to a level."""
    side = area(boxes_xyxy).sqrt() / CANONICAL_SIDE_PX
    octave = torch.floor(torch.log2(side * CANONICAL_STRIDE / strides[0] + 1e-8))
    return octave.clamp(0, len(strides) - 1).long()
