"""Strip-MLP's block: tokens of a whole row or column mix together with the neighboring strips, then the channels mix.

Guiping Cao et al., "Strip-MLP: Efficient Token Interaction for Vision MLP", ICCV 2023. Half of the channels go through
the strip layers (CGSMM in the paper), the other half through local convolutions of 3 x 7 and 7 x 3 (LSMM). A strip
layer is a convolution whose channels are the cells of a strip, so its weights belong to one grid; larger and smaller
maps are seen through overlapping crops (Cross-DINO's CLAP), around the strip layers alone. Parameters are named as in
the official code.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float
from timm.layers import DropPath  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.nn.overlapping_crops import OverlappingCrops


class StripMLPBlock(nn.Module):
    """Mixes tokens, then channels, both as residuals that are dropped per image in training.

    grid: side, in cells, of the square map that the strip layers belong to. groups: channel groups that share their
    weights. drop_path: how often a residual is dropped.
    """

    def __init__(self, channels: int, grid: int, groups: int, drop_path: float = 0.1) -> None:
        super().__init__()
        self.token_mixing = TokenMixing(channels, grid, groups)
        self.channel_mixing = ChannelMixing(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Float[Tensor, "B C H W"], crops: OverlappingCrops) -> Float[Tensor, "B C H W"]:
        """Mixed features; `crops` are those of this map and of the block's grid."""
        features = features + self.drop_path(self.token_mixing(features, crops))
        return features + self.drop_path(self.channel_mixing(features))


class TokenMixing(nn.Module):
    """A depthwise 3 x 3 convolution of the normalized features, then the strip block."""

    def __init__(self, channels: int, grid: int, groups: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        merge = nn.Sequential(OrderedDict(BN=nn.BatchNorm2d(channels), GELU=nn.GELU(), Conv=depthwise))
        self.dwsc = nn.Sequential(OrderedDict(conv_merge=merge))
        self.smlp_block = StripBlock(channels, grid, groups)

    def forward(self, features: Float[Tensor, "B C H W"], crops: OverlappingCrops) -> Float[Tensor, "B C H W"]:
        """The residual; the map keeps its size."""
        return self.smlp_block(self.dwsc(features), crops)


class StripBlock(nn.Module):
    """Strip layers over the first half of the channels beside local strips over the second half."""

    def __init__(self, channels: int, grid: int, groups: int) -> None:
        super().__init__()
        half = channels // 2
        if channels % 2 or half % groups:
            raise ValueError(
                f"expected an even number of channels whose half divides into {groups} groups, got {channels}; "
                "change the network's width or groups"
            )
        self.groups = groups
        self.mlp = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.GELU())
        self.relate_pos_h, self.relate_pos_w = RelativePosition(half, grid), RelativePosition(half, grid)
        self.proj_h, self.proj_w = _strip_layer(half // groups, grid), _strip_layer(half // groups, grid)
        self.fuse_h, self.fuse_w = (nn.Conv2d(channels, half, 1, bias=False) for _ in range(2))
        self.BN = nn.BatchNorm2d(half)
        self.fc_h = nn.Conv2d(half, half, (3, 7), padding=(1, 3), groups=half, bias=False)
        self.fc_w = nn.Conv2d(half, half, (7, 3), padding=(3, 1), groups=half, bias=False)
        squeeze, expand = nn.Conv2d(half, half // 2, 1), nn.Conv2d(half // 2, 3 * half, 1)
        self.reweight = nn.Sequential(OrderedDict(fc1=squeeze, act=nn.GELU(), fc2=expand))
        self.fuse = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Float[Tensor, "B C H W"], crops: OverlappingCrops) -> Float[Tensor, "B C H W"]:
        """Only the strip layers see crops; all else sees the whole map."""
        strips, local = self.mlp(features).chunk(2, dim=1)
        mixed = crops.merge(self.strip_layers(crops.split(strips)))
        strips = self.fuse_w(torch.cat([strips, mixed], dim=1))
        return self.fuse(torch.cat([strips, self.local_strips(local)], dim=1))

    def strip_layers(self, crops: Float[Tensor, "P D n n"]) -> Float[Tensor, "P D n n"]:
        """Rows mix, then columns, each with their neighbors on both sides and with positions added before."""
        mixed = self._mixed_rows(crops + self.relate_pos_h())
        mixed = F.gelu(self.BN(self.fuse_h(torch.cat([mixed, crops], dim=1))))
        return self._mixed_columns(mixed + self.relate_pos_w())

    def local_strips(self, features: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Tall strips, wide strips and the features, weighted per channel by what the map holds on average."""
        wide, tall = self.fc_h(features), self.fc_w(features)
        weights = self.reweight((wide + tall + features).mean(dim=(2, 3), keepdim=True))
        weights = weights.unflatten(1, (-1, 3)).softmax(dim=2, dtype=torch.float32).to(features.dtype)
        for_tall, for_wide, for_features = weights.unbind(2)
        return tall * for_tall + wide * for_wide + features * for_features

    def _mixed_rows(self, features: Tensor) -> Tensor:
        """The layer's channels are (channel of the group, column), its maps (group, row)."""
        strips = features.unflatten(1, (self.groups, -1)).permute(0, 2, 4, 1, 3)
        mixed = self.proj_h(strips.flatten(1, 2)).unflatten(1, strips.shape[1:3])
        return mixed.permute(0, 3, 1, 4, 2).flatten(1, 2)

    def _mixed_columns(self, features: Tensor) -> Tensor:
        """The layer's channels are (channel of the group, row), its maps (group, column)."""
        strips = features.unflatten(1, (self.groups, -1)).permute(0, 2, 3, 1, 4)
        mixed = self.proj_w(strips.flatten(1, 2)).unflatten(1, strips.shape[1:3])
        return mixed.permute(0, 3, 1, 2, 4).flatten(1, 2)


def _strip_layer(channels: int, grid: int) -> nn.Conv2d:
    """A linear layer per channel over the cells of three neighboring strips; zeros stand beyond the border."""
    return nn.Conv2d(channels * grid, channels * grid, (1, 3), padding=(0, 1), groups=channels)


class RelativePosition(nn.Module):
    """A learned number per channel for each difference of column and row, -n to n, of an n x n grid."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.embeddings_table = nn.Parameter(torch.empty(2 * grid + 1, channels))
        nn.init.trunc_normal_(self.embeddings_table, std=0.02)

    def forward(self) -> Float[Tensor, "C n n"]:
        """Entry [channel, row, column]."""
        cell = torch.arange(self.grid, device=self.embeddings_table.device)
        return F.embedding(cell - cell[:, None] + self.grid, self.embeddings_table).permute(2, 0, 1)


class ChannelMixing(nn.Module):
    """A depthwise 7 x 7 convolution, then a perceptron over channels with ConvNeXt V2's response norm inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_77 = nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False)
        self.layer_norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 3 * channels)
        self.grn = GlobalResponseNorm(3 * channels)
        self.fc2 = nn.Linear(3 * channels, channels)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The residual."""
        tokens = self.layer_norm(self.conv_77(features).permute(0, 2, 3, 1))
        return self.fc2(self.grn(F.gelu(self.fc1(tokens)))).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Channels compete by their strength in the map (Woo et al., "ConvNeXt V2", CVPR 2023); at first, identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, tokens: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """gamma * x * (|x_c| / mean over channels of |x_c|) + beta + x, with the L2 norms |x_c| over the map."""
        strength = torch.linalg.vector_norm(tokens, dim=(1, 2), keepdim=True, dtype=torch.float32)
        share = (strength / (strength.mean(dim=-1, keepdim=True) + 1e-6)).to(tokens.dtype)
        return self.gamma * (tokens * share) + self.beta + tokens
