"""Small objects weigh more in the box losses while training is young.

LSQ-DETR (released code of 2026, no paper): the L1 and generalized IoU losses of a matched pair are multiplied by a
weight that falls with the side of its object in steps, divided by the mean weight of all pairs, and decays linearly to
1 over the first half of the training. Since the mean is divided out, weights move shares between objects and leave the
total alone: where all objects are of one size nothing changes. Classification, matching and counting are not weighted.

How this differs from the official code, which
- takes every network input for an 800 x 800 image, so that sides are wrong on any other (here: each image's real size;
  constant_side_px=800 restores it),
- averages weights over one process's pairs but counts objects over all processes (here: both over all, so that
  gradients are those of one process on the whole batch; per_process_mean=True restores it),
- decays over 12 epochs whatever the training's length (here: half of it, which is the same for its 24 epochs).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor

from smidgen.structures import SupervisedSet


@dataclass(frozen=True, kw_only=True)
class ScaleWeighting:
    """A `PairWeighting` by object side = sqrt(width x height) in pixels of the network input.

    bins_px: ascending edges; a side below bins_px[i], and not below an earlier edge, has weights[i]; one that reaches
    the last edge has the last weight. decay: share of the training after which all weights are 1; 0 = they never decay.
    constant_side_px, per_process_mean: the official behavior, see the module.
    """

    bins_px: tuple[float, ...] = (4, 8, 16, 32)
    weights: tuple[float, ...] = (3.0, 2.5, 2.0, 1.5, 1.0)
    constant_side_px: float | None = None
    decay: float = 0.5
    per_process_mean: bool = False

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.bins_px) + 1:
            raise ValueError(
                f"expected one weight more than the {len(self.bins_px)} edges of the bins, got {self.weights}; "
                "change model.scale_weights or model.scale_bins_px"
            )
        if any(high <= low for low, high in pairwise((0, *self.bins_px))):
            raise ValueError(
                f"expected positive edges of bins in ascending order, got {self.bins_px}; change model.scale_bins_px"
            )
        if min(self.weights) <= 0:
            raise ValueError(f"expected positive weights, got {self.weights}; change model.scale_weights")
        if self.decay < 0:
            raise ValueError(f"expected a decay of at least 0, got {self.decay}; change model.scale_decay")

    @torch.no_grad()
    def __call__(
        self, supervised: SupervisedSet, boxes_cxcywh: Float[Tensor, "M 4"], progress: float
    ) -> Float[Tensor, " M"]:
        """The pairs' weights divided by their mean; boxes_cxcywh: of their objects. Empty where nothing is matched."""
        if self._remaining(progress) == 0:  # so on all processes: none waits for the others' mean
            return boxes_cxcywh.new_ones(len(boxes_cxcywh))
        weights = self.weights_of(self.sides_px(supervised, boxes_cxcywh), progress)
        return weights / self._mean(weights)

    def weights_of(self, sides_px: Float[Tensor, " M"], progress: float) -> Float[Tensor, " M"]:
        """Weights of objects with these sides, before they are divided by their mean."""
        weights = torch.full_like(sides_px, self.weights[-1])
        # From the widest bin down, with plain numbers: a table of edges would have to be copied to the device.
        for edge, weight in reversed(tuple(zip(self.bins_px, self.weights[:-1], strict=True))):
            weights = weights.masked_fill(sides_px < edge, weight)
        return 1 + (weights - 1) * self._remaining(progress)

    def sides_px(self, supervised: SupervisedSet, boxes_cxcywh: Float[Tensor, "M 4"]) -> Float[Tensor, " M"]:
        """Side of each pair's object: square root of its box's area in pixels of the network input."""
        if self.constant_side_px is not None:
            # float32 as in the official code: in which bin a side of exactly 4 px falls depends on its rounding.
            sizes_px = boxes_cxcywh[:, 2:].float() * self.constant_side_px
        else:
            # From the pixels themselves, not from shares of the image times its size: edges of bins stay exact.
            boxes_xyxy = torch.cat([target.boxes_xyxy for target in supervised.targets])
            boxes_xyxy = boxes_xyxy[supervised.matches.flat_target(supervised.targets)]
            sizes_px = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        return sizes_px.prod(-1).sqrt()

    def _remaining(self, progress: float) -> float:
        return max(0.0, 1 - progress / self.decay) if self.decay else 1.0

    def _mean(self, weights: Float[Tensor, " M"]) -> Float[Tensor, ""]:
        """Over the pairs of all processes; every process asks for the same sets in the same order."""
        total_and_count = torch.stack([weights.sum(), torch.ones_like(weights).sum()])
        if not self.per_process_mean and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total_and_count)
        return total_and_count[0] / total_and_count[1].clamp(min=1)
