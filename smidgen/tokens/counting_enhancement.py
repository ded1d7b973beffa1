"""What was seen in counting says which places of the memory matter: gates computed from the counter's feature map.

Huang et al., "DQ-DETR: DETR with Dynamic Query for Tiny Object Detection", ECCV 2024, section 3.3 (counting-guided
feature enhancement); the gates are those of Woo et al., "CBAM", ECCV 2018. LSQ-DETR leaves out the channel gate. The
official gates read padded cells, and their one batch norm takes the statistics of each level in training but a mixture
of all levels in evaluation; here padded cells are zero before every convolution and in no statistic, and the norm sees
all levels at once, in training, too (mask_padding=False, norm_per_level=True restore the official behavior).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.mlp import MLP
from smidgen.nn.valid_cells import ValidBatchNorm, ValidGroupNorm, max_of_valid, mean_of_valid, zero_padded
from smidgen.structures import FeaturePyramid, Memory, Tokens


class Counter(Protocol):
    """A map and its padding to evidence of the count and a map of `out_channels` at the same resolution."""

    out_channels: int

    def __call__(self, features: Tensor, padding: Tensor) -> tuple[object, Tensor]: ...


class CountingEnhancement(nn.Module):
    """A stage after the encoder: counts on the finest level, then multiplies the memory of every level by its gates.

    counter: also leaves the evidence. width: of the memory. channel_gate: DQ-DETR's second gate.
    """

    def __init__(
        self,
        counter: Counter,
        width: int,
        num_levels: int,
        channel_gate: bool = False,
        mask_padding: bool = True,
        norm_per_level: bool = False,
    ) -> None:
        super().__init__()
        self.counter, self.mask_padding = counter, mask_padding
        self.guides = nn.ModuleList(_HalvedGuide(counter.out_channels) for _ in range(num_levels - 1))
        self.spatial_gates = SpatialGates(norm_per_level)
        self.channel_gate = ChannelGate(width) if channel_gate else None

    def forward(self, memory: Memory, pyramid: FeaturePyramid) -> Memory:
        """Gated memory with one more piece of evidence; the pyramid is not read."""
        padding = self._padding(memory.tokens)
        count, guide = self.counter(memory.tokens.unflatten(0), padding[0])
        gates = self.spatial_gates(self._guides(guide, padding), padding)
        tokens = self._gated(memory.tokens, gates, padding)
        separate = memory.proposal_tokens is not memory.tokens
        proposal_tokens = self._gated(memory.proposal_tokens, gates, padding) if separate else tokens
        return replace(memory, tokens=tokens, proposal_tokens=proposal_tokens, evidence=(*memory.evidence, count))

    def _padding(self, tokens: Tokens) -> list[Bool[Tensor, "B _ _"]]:
        padding = tokens.padding if self.mask_padding else torch.zeros_like(tokens.padding)
        levels = padding.split([rows * columns for rows, columns in tokens.shapes], dim=1)
        return [level.unflatten(1, shape) for level, shape in zip(levels, tokens.shapes, strict=True)]

    def _guides(self, guide: Float[Tensor, "B C _ _"], padding: Sequence[Tensor]) -> list[Float[Tensor, "B C _ _"]]:
        guides = [guide]
        for halve, mask in zip(self.guides, padding[1:], strict=True):
            guides.append(halve(guides[-1], mask))
        return guides

    def _gated(self, tokens: Tokens, gates: Sequence[Tensor], padding: Sequence[Tensor]) -> Tokens:
        levels = [tokens.unflatten(level) * gate for level, gate in enumerate(gates)]
        if self.channel_gate is not None:
            levels = [level * self.channel_gate(level, mask) for level, mask in zip(levels, padding, strict=True)]
        return tokens.with_content(torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1))


class _HalvedGuide(nn.Module):
    """The guide of the next coarser level: a strided 3x3 convolution, group norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)
        self.norm = ValidGroupNorm(math.gcd(32, channels), channels)
        nn.init.xavier_uniform_(self.convolution.weight)

    def forward(self, guide: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B h w"]) -> Float[Tensor, "B C h w"]:
        halved: Tensor = self.convolution(guide)
        if halved.shape[2:] != padding.shape[1:]:
            raise ValueError(
                f"expected each level to have half the rows and columns of the level before, rounded up: "
                f"{tuple(halved.shape[2:])}, got {tuple(padding.shape[1:])}; give model.backbone.strides that double, "
                "and model.preprocessing.pad_multiple=32 where the backbone rounds down (such as ConvNeXt)"
            )
        normed: Tensor = self.norm(halved, padding)
        return normed.relu()


class SpatialGates(nn.Module):
    """Which places matter: a 7x7 convolution over the channels' maximum and mean, the same for all levels.

    norm_per_level: one call of the batch norm per level, as in the official code.
    """

    def __init__(self, norm_per_level: bool = False) -> None:
        super().__init__()
        self.norm_per_level = norm_per_level
        self.convolution = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = ValidBatchNorm(1, momentum=0.01)
        nn.init.xavier_uniform_(self.convolution.weight)

    def forward(
        self, guides: Sequence[Float[Tensor, "B C _ _"]], padding: Sequence[Bool[Tensor, "B _ _"]]
    ) -> list[Float[Tensor, "B 1 _ _"]]:
        """A number in (0, 1) for every cell of every level."""
        evidence = [
            self.convolution(_largest_and_mean(zero_padded(*pair))) for pair in zip(guides, padding, strict=True)
        ]
        if self.norm_per_level:
            return [self.norm(*pair).sigmoid() for pair in zip(evidence, padding, strict=True)]
        cells = torch.cat([level.flatten(2) for level in evidence], dim=2)[..., None]
        masks = torch.cat([mask.flatten(1) for mask in padding], dim=1)[..., None]
        levels = self.norm(cells, masks).sigmoid().squeeze(-1).split([mask[0].numel() for mask in padding], dim=2)
        return [level.unflatten(2, mask.shape[1:]) for level, mask in zip(levels, padding, strict=True)]


class ChannelGate(nn.Module):
    """Which channels matter: one small MLP over their mean and over their maximum, added."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.mlp = MLP(width, max(1, width // reduction), width)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C 1 1"]:
        """A number in (0, 1) for every channel of every image."""
        pooled: Tensor = self.mlp(mean_of_valid(features, padding)) + self.mlp(max_of_valid(features, padding))
        return pooled.sigmoid()[..., None, None]


def _largest_and_mean(guide: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 2 H W"]:
    return torch.cat([guide.amax(dim=1, keepdim=True), guide.mean(dim=1, keepdim=True)], dim=1)
