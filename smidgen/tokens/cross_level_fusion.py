"""Levels tell each other what they saw: a path from coarse to fine, then one back, over the encoder's memory.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024,
cross-level token fusion (equation 10). The paths are those of PANet (Liu et al., 2018), the blocks those of RepVGG
(Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021), with a gate. As in the official code, and
unlike the paper, both branches of a block count fully instead of by alpha and 1 - alpha, activations are SiLU, the gate
reads an attention-pooled context (Cao et al., "GCNet", 2019), and every level but the finest passes a lateral
convolution on its way down. The official convolutions, gates and batch statistics read the padding of the canvas, too;
here they do not (mask_padding=False restores it). The official code has nothing like `fused`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.nn.inference_only import refuse_to_be_saved
from smidgen.nn.valid_cells import ValidBatchNorm, zero_in_padding
from smidgen.structures import FeaturePyramid, Memory, Tokens

ModuleType = TypeVar("ModuleType", bound=nn.Module)


class CrossLevelFusion(nn.Module):
    """A stage on the memory: every level, the coarsest included, gathers from all others.

    Each level must have half as many rows and columns as the finer one, rounded up. `groups` of the blocks' 3x3
    convolutions; `gate_reduction`: width of a gate over that of its hidden layer. mask_padding: padded cells are zero
    before every 3x3 convolution, have no say in the gates, and come out as zero. One level passes unchanged.
    """

    def __init__(
        self,
        width: int,
        num_levels: int,
        num_blocks: int = 3,
        groups: int = 4,
        gate_reduction: int = 16,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        if num_levels < 1 or width % groups:
            raise ValueError(
                f"expected at least one level and a width that is a multiple of {groups} groups, got {num_levels} "
                f"levels and width {width}; change model.transformer.width"
            )
        self.mask_padding = mask_padding
        steps = range(num_levels - 1)
        # Entry i of each list lies between level i and level i + 1.
        self.lateral = nn.ModuleList(NormedConvolution(width, width, 1) for _ in steps)
        self.top_down = nn.ModuleList(
            CrossStageLayer(2 * width, width, num_blocks, groups, gate_reduction) for _ in steps
        )
        self.downsample = nn.ModuleList(NormedConvolution(width, width, 3, stride=2) for _ in steps)
        self.bottom_up = nn.ModuleList(
            CrossStageLayer(2 * width, width, num_blocks, groups, gate_reduction) for _ in steps
        )
        self.apply(_initialize)

    def forward(self, memory: Memory, pyramid: FeaturePyramid) -> Memory:
        """Fused tokens, to decode over and to propose from, with the evidence so far; the pyramid is not read."""
        tokens = memory.tokens
        self._check(tokens)
        padding = [_padding_map(tokens, level) for level in range(len(tokens.shapes))]
        maps = self.fuse_maps([tokens.unflatten(level) for level in range(len(tokens.shapes))], padding)
        content = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        return Memory.of(tokens.with_content(content), *memory.evidence)

    def fuse_maps(
        self, maps: Sequence[Float[Tensor, "B C _ _"]], padding: Sequence[Bool[Tensor, "B _ _"]]
    ) -> list[Float[Tensor, "B C _ _"]]:
        """Maps of all levels, finest first, after both paths."""
        if not self.mask_padding:
            padding = [torch.zeros_like(mask) for mask in padding]
        return self._bottom_up_path(self._top_down_path(maps, padding), padding)

    def _top_down_path(self, maps: Sequence[Tensor], padding: Sequence[Tensor]) -> list[Tensor]:
        """Coarse to fine. What the next path reads of all but the finest level is the lateral convolution's output."""
        top, path = maps[-1], []
        for step in reversed(range(len(self.lateral))):
            coarse, fine = F.silu(self.lateral[step](top, padding[step + 1])), maps[step]
            # Levels halve exactly, so that cell i reads cell i // 2 on every canvas.
            enlarged = F.interpolate(coarse, size=(fine.shape[-2], fine.shape[-1]), mode="nearest")
            top = self.top_down[step](torch.cat([enlarged, fine], dim=1), padding[step])
            path.append(coarse)
        return [top, *reversed(path)]

    def _bottom_up_path(self, maps: Sequence[Tensor], padding: Sequence[Tensor]) -> list[Tensor]:
        """Fine to coarse."""
        path = [maps[0]]
        for step, (downsample, layer) in enumerate(zip(self.downsample, self.bottom_up, strict=True)):
            coarse = F.silu(downsample(path[-1], padding[step + 1]))
            joined = torch.cat([coarse, maps[step + 1]], dim=1)
            path.append(layer(joined, padding[step + 1]))
        return path

    def _check(self, tokens: Tokens) -> None:
        if len(tokens.shapes) != len(self.lateral) + 1:
            raise ValueError(f"expected tokens of {len(self.lateral) + 1} levels, got {len(tokens.shapes)}")
        halves = [((rows + 1) // 2, (columns + 1) // 2) for rows, columns in tokens.shapes]
        if any(half != coarse for half, (_, coarse) in zip(halves, pairwise(tokens.shapes), strict=False)):
            raise ValueError(
                f"expected levels that halve, rounded up, got cells {tokens.shapes}; change model.backbone.strides to "
                "consecutive powers of 2"
            )


class CrossStageLayer(nn.Module):
    """Two 1x1 convolutions of the same input, one of them followed by blocks, added (CSPNet, Wang et al., 2020)."""

    def __init__(self, channels_in: int, channels: int, num_blocks: int, groups: int, gate_reduction: int) -> None:
        super().__init__()
        self.entry = NormedConvolution(channels_in, channels, 1)
        self.shortcut = NormedConvolution(channels_in, channels, 1)
        self.blocks = nn.ModuleList(RepVGGBlock(channels, groups, gate_reduction) for _ in range(num_blocks))

    def forward(self, features: Float[Tensor, "B I H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """The layer's map, zero in the padding."""
        refined = zero_in_padding(F.silu(self.entry(features, padding)), padding)
        for block in self.blocks:
            refined = block(refined, padding)
        return zero_in_padding(F.silu(self.shortcut(features, padding)).add_(refined), padding)


class RepVGGBlock(nn.Module):
    """x + gate(SiLU(branches(x))): the paper's RepVGGPlus block.

    branches: `TwoBranches` to train; one convolution once `fused`.
    """

    def __init__(self, channels: int, groups: int, gate_reduction: int) -> None:
        super().__init__()
        self.branches: nn.Module = TwoBranches(channels, groups)
        self.gate = AttentionPooledGate(channels, gate_reduction)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """The block's map, zero in the padding; `features` must be zero there."""
        return zero_in_padding(self.gate(F.silu(self.branches(features, padding)), padding), padding).add_(features)


class TwoBranches(nn.Module):
    """A 3x3 and a 1x1 group convolution, each with its own batch norm, added."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.square = NormedConvolution(channels, channels, 3, groups=groups)
        self.pointwise = NormedConvolution(channels, channels, 1, groups=groups)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """Sum of the branches."""
        total: Tensor = self.square(features, padding) + self.pointwise(features, padding)
        return total

    @torch.no_grad()
    def fused(self) -> FusedBranches:
        """The one 3x3 convolution that computes the same with the running statistics (RepVGG, section 3.3)."""
        square, pointwise = self.square.folded(), self.pointwise.folded()
        assert square.bias is not None and pointwise.bias is not None
        square.weight += F.pad(pointwise.weight, (1, 1, 1, 1))
        square.bias += pointwise.bias
        return FusedBranches(square)


class FusedBranches(nn.Module):
    """What two branches, or a convolution and its norm, have become."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.register_state_dict_pre_hook(refuse_to_be_saved)

    def forward(self, features: Float[Tensor, "B I _ _"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """The convolution's map; padding has no more say."""
        answer: Tensor = self.convolution(features)
        return answer


class NormedConvolution(nn.Module):
    """A convolution without bias, and a batch norm over the cells that show the image."""

    def __init__(self, channels_in: int, channels: int, size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels, size, stride, (size - 1) // 2, groups=groups, bias=False)
        self.norm = ValidBatchNorm(channels)

    def forward(self, features: Float[Tensor, "B I _ _"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """`padding` is the answer's: a strided convolution's map is smaller than `features`."""
        answer: Tensor = self.norm(self.convolution(features), padding)
        return answer

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """The convolution with the norm's running statistics in weight and bias."""
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        folded = deepcopy(self.convolution)
        folded.weight *= scale[:, None, None, None]
        folded.bias = nn.Parameter(self.norm.bias - self.norm.running_mean * scale)
        return folded


class AttentionPooledGate(nn.Module):
    """One factor in (0, 1) per channel, from a context that is a learned average over the cells of the map."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.pooling = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """`features`, gated; padded cells are left out of the average."""
        score = self.pooling(features)
        # Not minus infinity: a map without a valid cell must not become NaN.
        score = score.masked_fill(padding[:, None], torch.finfo(score.dtype).min)
        weight = score.flatten(2).softmax(dim=-1)
        context = features.flatten(2) @ weight.transpose(1, 2)
        gate: Tensor = self.expand(F.relu(self.squeeze(context[..., None]))).sigmoid()
        return features * gate


def fused(module: ModuleType) -> ModuleType:
    """A copy of `module` (a fusion, or a whole detector) that `fuse` has rewritten."""
    copy = deepcopy(module)
    fuse(copy)
    return copy


def fuse(module: nn.Module) -> None:
    """Rewrite `module` in place: one convolution with bias for the branches of every block, and for every norm with its
    convolution.

    For inference: exact with running statistics only, and the checkpoint of a model holds both branches, so what is
    fused refuses to be saved. Tensors are replaced, not written to. Raises ValueError for a module in training mode.
    """
    if any(part.training for part in module.modules() if isinstance(part, RepVGGBlock)):
        raise ValueError("expected a module in evaluation mode, whose norms no longer change; call module.eval() first")
    for parent in list(module.modules()):
        for name, part in parent.named_children():
            if isinstance(part, TwoBranches):
                parent.register_module(name, part.fused())
            elif isinstance(part, NormedConvolution) and not isinstance(parent, TwoBranches):
                parent.register_module(name, FusedBranches(part.folded()))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, a=1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _padding_map(tokens: Tokens, level: int) -> Bool[Tensor, "B H W"]:
    padding = tokens.padding[:, tokens.starts[level] : tokens.starts[level + 1]]
    return padding.reshape(-1, *tokens.shapes[level])
