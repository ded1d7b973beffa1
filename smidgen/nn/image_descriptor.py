"""What the encoder saw of the whole image in one vector: dilated convolutions per level, fused from coarse to fine.

"PaQ-DETR", CVPR 2026 (arXiv 2603.06917), feature extraction and fusion of the query generator: per level a 1x1 and a
dilated 3x3 convolution; from the coarsest level on enlarge, add, attend to channels (ECA) and to rows and columns
(coordinate attention), and add the encoder's map. The paper has no public code; widths, kernels and the details of the
attention are choices of ours that fit its cost (+1.8 M parameters, +9 GFLOPs). Padded cells are zero before every
convolution and in no mean, and levels are enlarged by repeating cells, so that neither the batch mates nor the size of
the canvas change the vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.nn.channel_attention import EfficientChannelAttention
from smidgen.nn.coordinate_attention import CoordinateAttention
from smidgen.nn.valid_cells import ValidBatchNorm, ValidGroupNorm, zero_padded
from smidgen.structures import Tokens

ExtractorNorm: TypeAlias = Literal["none", "group", "batch"]


class LevelExtraction(nn.Module):
    """Of one level: a 1x1 convolution to `hidden` channels, a dilated 3x3 one back to `width`, ReLU.

    norm: before the ReLU; the paper lists "none". The statistics of the others are those of valid cells.
    """

    def __init__(self, width: int, hidden: int, dilation: int, norm: ExtractorNorm = "none") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, hidden, 1, bias=False)
        self.conv2 = nn.Conv2d(hidden, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = _norm(norm, width)
        for convolution in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(convolution.weight)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """The extracted map; padded cells of `features` must be zero, those of the answer mean nothing."""
        extracted = self.conv2(self.conv1(features))
        if self.norm is not None:
            extracted = self.norm(extracted, padding)
        return F.relu(extracted)


class FusionStep(nn.Module):
    """One step from a coarser level to a finer one. attention: ECA, then coordinate attention. skip: add the encoder's
    map.
    """

    def __init__(self, width: int, attention: bool = True, skip: bool = True) -> None:
        super().__init__()
        self.eca = EfficientChannelAttention() if attention else None
        self.coord = CoordinateAttention(width) if attention else None
        self.skip = skip

    def forward(
        self,
        coarse: Float[Tensor, "B C h w"],
        extracted: Float[Tensor, "B C H W"],
        encoded: Float[Tensor, "B C H W"],
        padding: Bool[Tensor, "B H W"],
    ) -> Float[Tensor, "B C H W"]:
        """The fused finer level. Valid cells read valid cells alone; what stands in padded ones means nothing."""
        fused = _enlarged(coarse, extracted) + extracted
        if self.eca is not None and self.coord is not None:
            fused = self.coord(self.eca(fused, padding), padding)
        return fused + encoded if self.skip else fused


def level_extractions(
    width: int, num_levels: int, hidden: int, dilations: Sequence[int] | None, norm: ExtractorNorm
) -> nn.ModuleList:
    """One extraction per level, finest first; dilations None = 1, 2, 4 ... doubling."""
    dilations = [2**level for level in range(num_levels)] if dilations is None else dilations
    if len(dilations) != num_levels or min(dilations, default=0) < 1:
        raise ValueError(
            f"expected one positive dilation for each of {num_levels} levels, finest first, got {list(dilations)}; "
            "change model.patterns.dilations, or leave it out for 1, 2, 4 ..."
        )
    return nn.ModuleList(LevelExtraction(width, hidden, dilation, norm) for dilation in dilations)


def fuse_top_down(
    tokens: Tokens, extract: nn.ModuleList, fuse: nn.ModuleList
) -> tuple[Float[Tensor, "B C H W"], Bool[Tensor, "B H W"]]:
    """The finest level that knows of all coarser ones, and its padding. `fuse[l]` makes level l of level l + 1."""
    padding = [
        tokens.padding[:, start : start + rows * columns].unflatten(1, (rows, columns))
        for start, (rows, columns) in zip(tokens.starts, tokens.shapes, strict=False)
    ]
    encoded = [zero_padded(tokens.unflatten(level), mask) for level, mask in enumerate(padding)]
    extracted = [layer(level, mask) for layer, level, mask in zip(extract, encoded, padding, strict=True)]
    fused = extracted[-1]
    for level in reversed(range(len(fuse))):
        fused = fuse[level](fused, extracted[level], encoded[level], padding[level])
    return fused, padding[0]


def mean_of_valid_tokens(content: Float[Tensor, "B N C"], padding: Bool[Tensor, "B N"]) -> Float[Tensor, "B C"]:
    """Mean over the tokens that show the image, in float32 or better; 0 where there are none."""
    precise = torch.promote_types(content.dtype, torch.float32)
    total = content.masked_fill(padding[..., None], 0.0).sum(dim=1, dtype=precise)
    return (total / (~padding).sum(dim=1, keepdim=True).clamp(min=1)).to(content.dtype)


def _enlarged(coarse: Float[Tensor, "B C h w"], fine: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Every cell repeated 2 x 2, cut to the finer level: cell i reads cell i // 2 on every canvas."""
    rows, columns = fine.shape[2:]
    if coarse.shape[2:] != ((rows + 1) // 2, (columns + 1) // 2):
        raise ValueError(
            f"expected a level of half as many rows and columns as {rows} x {columns}, rounded up, got "
            f"{tuple(coarse.shape[2:])}; change model.backbone.strides to consecutive powers of 2"
        )
    return F.interpolate(coarse, scale_factor=2.0, mode="nearest")[:, :, :rows, :columns]


def _norm(kind: ExtractorNorm, width: int) -> nn.Module | None:
    match kind:
        case "none":
            return None
        case "group":
            return ValidGroupNorm(math.gcd(32, width), width)
        case "batch":
            return ValidBatchNorm(width)
