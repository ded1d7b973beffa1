"""A pyramid as one sequence of tokens with positions: sine of the cell plus a learned vector per level."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.position_encoding import SinePosition
from smidgen.structures import FeaturePyramid, Tokens


class FlattenPyramid(nn.Module):
    """Level after level, rows after rows. `level_embed` (levels x width) starts as N(0, 1)."""

    def __init__(self, width: int, num_levels: int, position: SinePosition) -> None:
        super().__init__()
        self.position = position
        self.level_embed = nn.Parameter(torch.randn(num_levels, width))

    def forward(self, pyramid: FeaturePyramid) -> Tokens:
        """Tokens whose content is the map values as they are."""
        if len(pyramid.levels) != len(self.level_embed):
            raise ValueError(f"expected a pyramid of {len(self.level_embed)} levels, got {len(pyramid.levels)}")
        position = [
            self.position(mask).flatten(1, 2) + embed
            for mask, embed in zip(pyramid.padding, self.level_embed, strict=True)
        ]
        return Tokens(
            content=torch.cat([level.flatten(2).transpose(1, 2) for level in pyramid.levels], dim=1),
            position=torch.cat(position, dim=1),
            padding=torch.cat([mask.flatten(1) for mask in pyramid.padding], dim=1),
            valid_share=torch.stack([valid_share(mask) for mask in pyramid.padding], dim=1),
            shapes=pyramid.shapes,
            strides=pyramid.strides,
        )


def valid_share(padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B 2"]:
    """Share of columns and of rows that show the image, read from the first row and column; order (w, h)."""
    shown = (~padding).float()
    return torch.stack([shown[:, 0].mean(dim=1), shown[:, :, 0].mean(dim=1)], dim=-1)
