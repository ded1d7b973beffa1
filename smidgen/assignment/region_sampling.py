"""Which regions the second stage is taught on: some that show an object, more that show background.

Ren et al., "Faster R-CNN", 2015; numbers of Lin et al., "Feature Pyramid Networks", CVPR 2017, section 5.2, and of
detectron2: 512 regions of an image, a quarter of them positive at most, IoU 0.5. Objects join their image's regions, so
that each is shown to the second stage from the first step on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.boxes.answer_matches import AnswerMatches
from smidgen.structures import Target
from smidgen.structures.regions import Regions, RegionTruth


@dataclass(frozen=True, kw_only=True)
class RegionSampling:
    """assignment: (boxes of an image, its target) to matches. sampling: matches to those that are judged."""

    assignment: Callable[[Tensor, Target], AnswerMatches]
    sampling: Callable[[AnswerMatches], AnswerMatches]
    num_classes: int

    @torch.no_grad()
    def __call__(self, regions: Regions, targets: Sequence[Target]) -> tuple[Regions, RegionTruth]:
        """The chosen regions and objects of all images with what they show, in the frame of the network input."""
        samples = [
            self._of_image(regions.boxes_xyxy[regions.image == image], target) for image, target in enumerate(targets)
        ]
        boxes, labels, owners = (torch.cat(parts) for parts in zip(*samples, strict=True))
        image = torch.cat([torch.full_like(sample[1], index) for index, sample in enumerate(samples)])
        return Regions(boxes, image, regions.batch), RegionTruth(labels, owners)

    def _of_image(self, boxes_xyxy: Float[Tensor, "N 4"], target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Box, label and object's box of the chosen ones."""
        boxes = torch.cat([boxes_xyxy, target.boxes_xyxy.to(boxes_xyxy.dtype)])
        matches = self.sampling(self.assignment(boxes, target))
        labels = AnswerMatches.stack([matches]).labels([target], self.num_classes)[0]
        chosen = matches.counted
        # The last row stands where background's -1 points.
        owners = torch.cat([target.boxes_xyxy, target.boxes_xyxy.new_zeros(1, 4)])[matches.target[chosen]]
        return boxes[chosen], labels[chosen], owners
