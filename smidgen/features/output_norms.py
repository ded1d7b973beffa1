"""A layer norm behind every map of a backbone, as window transformers for detection have them.

Liu et al., "Swin Transformer", ICCV 2021: its detection code normalizes the maps that it hands out; timm's networks
hand them out raw.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from smidgen.structures import FeaturePyramid, ImageBatch


class OutputNorms(nn.Module):
    """`backbone` with its maps normalized over their channels, cell by cell."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels: tuple[int, ...] = backbone.channels
        self.strides: tuple[int, ...] = backbone.strides
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)

    @property
    def body(self) -> nn.Module:
        """The network without the norms, as a classifier has it."""
        body: nn.Module = self.backbone.body
        return body

    def forward(self, images: ImageBatch) -> FeaturePyramid:
        """Maps of the same shapes."""
        raw: FeaturePyramid = self.backbone(images)
        maps = [
            norm(level.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for norm, level in zip(self.norms, raw.levels, strict=True)
        ]
        return FeaturePyramid(tuple(maps), raw.padding, raw.strides, raw.canvas_padding)
