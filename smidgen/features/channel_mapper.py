"""Backbone maps to maps of one width: a 1x1 convolution and group norm per level, strided 3x3 ones for extra levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from smidgen.structures import FeaturePyramid
from smidgen.structures.pyramid import resize_padding


class ChannelMapper(nn.Module):
    """Deformable DETR's neck. The first extra level reads the raw last backbone map, later ones the level before.

    Group norms have 32 groups, or as many of them as divide the width.
    bias: True in the original Deformable DETR and DINO codes, False in the Relation-DETR and Salience DETR
    repositories.
    """

    def __init__(self, in_channels: Sequence[int], width: int, num_levels: int, *, bias: bool = True) -> None:
        super().__init__()
        if num_levels < len(in_channels):
            raise ValueError(f"expected at least {len(in_channels)} levels for as many backbone maps, got {num_levels}")
        inputs = [*in_channels, in_channels[-1], *[width] * num_levels][:num_levels]
        self.levels = nn.ModuleList()
        for index, channels in enumerate(inputs):
            extra = index >= len(in_channels)
            convolution = nn.Conv2d(channels, width, 3 if extra else 1, 2 if extra else 1, 1 if extra else 0, bias=bias)
            nn.init.xavier_uniform_(convolution.weight)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
            self.levels.append(nn.Sequential(convolution, nn.GroupNorm(math.gcd(32, width), width)))
        self.num_mapped = len(in_channels)

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """One map of the common width per level."""
        maps = [level(raw) for level, raw in zip(self.levels, pyramid.levels, strict=False)]
        padding, strides = list(pyramid.padding), list(pyramid.strides)
        for index in range(self.num_mapped, len(self.levels)):
            maps.append(self.levels[index](pyramid.levels[-1] if index == self.num_mapped else maps[-1]))
            strides.append(strides[-1] * 2)
            padding.append(resize_padding(pyramid.canvas_padding, (maps[-1].shape[-2], maps[-1].shape[-1])))
        return FeaturePyramid(tuple(maps), tuple(padding), tuple(strides), pyramid.canvas_padding)
