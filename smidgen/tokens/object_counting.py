"""How many objects does the image hold? A classifier of the finest memory level answers with a class of counts.

Huang et al., "DQ-DETR: DETR with Dynamic Query for Tiny Object Detection", ECCV 2024, section 3.2 (categorical counting
module). Counts are classes, not numbers: 0 ... 9, 10 ... 99, 100 ... 499 and 500 or more by default; the paper's
intervals end one object later. The official module also averages over the padding of the canvas, so that its answer
depends on the batch mates; here padded cells are left out (mask_padding=False restores the official behavior).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.nn.overwriting import rectified
from smidgen.nn.valid_cells import ValidGroupNorm, mean_of_valid, sum_of_valid, zero_in_padding

PAPER_THRESHOLDS = (10, 100, 500)


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """Evidence of counting.

    logits: over G = len(thresholds) + 1 classes of counts. thresholds: ascending; an image with n objects is of the
    class "number of thresholds <= n".
    """

    logits: Float[Tensor, "B G"]
    thresholds: tuple[int, ...]


class CategoricalCounter(nn.Module):
    """DQ-DETR's counting module: a 1x1 convolution to twice the width, six dilated 3x3 convolutions, mean and linear.

    thresholds: where the classes of counts begin. out_channels: of the feature map, which guides the enhancement.
    mask_padding: padded cells are zero before every convolution and not averaged over (official: they are).
    """

    def __init__(self, width: int, thresholds: Sequence[int] = PAPER_THRESHOLDS, mask_padding: bool = True) -> None:
        super().__init__()
        widths = [2 * width] * 4 + [width] * 3
        self.thresholds = _ascending(thresholds)
        self.mask_padding, self.out_channels = mask_padding, width
        self.entry = nn.Conv2d(width, 2 * width, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=2, dilation=2) for before, after in pairwise(widths)
        )
        self.classifier = nn.Linear(width, len(self.thresholds) + 1)
        _xavier(self)

    def forward(
        self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]
    ) -> tuple[ObjectCount, Float[Tensor, "B C H W"]]:
        """The count, and the feature map it was read from."""
        padding = padding if self.mask_padding else torch.zeros_like(padding)
        features = zero_in_padding(self.entry(features), padding)
        for convolution in self.convolutions:
            # Masked before the ReLU: what it keeps for the backward pass is then the next convolution's input, too.
            features = rectified(zero_in_padding(convolution(features), padding))
        return ObjectCount(self.classifier(mean_of_valid(features, padding)), self.thresholds), features


class LightCounter(nn.Module):
    """The same answer at a fraction of the cost: half the width, separable convolutions.

    A mean over the image says how dense objects are, not how many: besides it the classifier reads the logarithms of
    `num_densities` sums of non-negative maps, which grow with the image as counts do (density maps: Lempitsky and
    Zisserman, "Learning to Count Objects in Images", 2010). Ours; the papers have no such variant.
    """

    def __init__(
        self,
        width: int,
        thresholds: Sequence[int] = PAPER_THRESHOLDS,
        mask_padding: bool = True,
        *,
        dilations: Sequence[int] = (1, 2, 4, 1, 2, 4),
        num_densities: int = 8,
    ) -> None:
        super().__init__()
        self.thresholds = _ascending(thresholds)
        self.mask_padding, self.out_channels = mask_padding, width // 2
        self.entry = nn.Conv2d(width, self.out_channels, 1)
        self.blocks = nn.ModuleList(_SeparableBlock(self.out_channels, dilation) for dilation in dilations)
        self.density = nn.Conv2d(self.out_channels, num_densities, 1)
        self.classifier = nn.Linear(self.out_channels + num_densities, len(self.thresholds) + 1)
        _xavier(self)
        nn.init.constant_(self.density.bias, -4.0)  # type: ignore[arg-type]  # few objects before anything is learned
        # The sums are large numbers: the classifier begins without them, or its first answers would be sure and wrong.
        nn.init.zeros_(self.classifier.weight[:, self.out_channels :])

    def forward(
        self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]
    ) -> tuple[ObjectCount, Float[Tensor, "B c H W"]]:
        """The count, and a feature map of half the channels."""
        padding = padding if self.mask_padding else torch.zeros_like(padding)
        features = zero_in_padding(self.entry(features), padding)
        for block in self.blocks:
            features = block(features, padding)
        amount = sum_of_valid(F.softplus(self.density(features).float()), padding).log1p().to(features.dtype)
        logits = self.classifier(torch.cat([mean_of_valid(features, padding), amount], dim=1))
        return ObjectCount(logits, self.thresholds), features


class _SeparableBlock(nn.Module):
    """Depthwise dilated 3x3 and pointwise convolution with group norm over valid cells, added to their input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = ValidGroupNorm(math.gcd(32, channels), channels)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        update: Tensor = self.norm(self.pointwise(self.depthwise(features)), padding)
        return features + F.relu(update)


def _ascending(thresholds: Sequence[int]) -> tuple[int, ...]:
    if not thresholds or sorted(set(thresholds)) != list(thresholds):
        raise ValueError(
            f"expected ascending thresholds of object counts, got {list(thresholds)}; change model.count_thresholds"
        )
    return tuple(thresholds)


def _xavier(module: nn.Module) -> None:
    """Xavier-uniform weights, as everything inside the official transformer."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
