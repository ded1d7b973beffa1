"""Any encoder over the coarser levels, then one that adds the finest level's active tokens.

Made for encoders that filter or fuse levels themselves (Hou et al., "Salience DETR", CVPR 2024): they keep working on
all cells of the levels they get, and never pay for a dense finest level.
"""

from __future__ import annotations

import torch
from torch import nn

from smidgen.structures import FeaturePyramid, Memory, Tokens


class CoarseFirst(nn.Module):
    """`coarse` encodes all levels but the finest as if there were no other; then `finest` runs on all of them.

    finest: an encoder that refines active tokens of the finest level only and reads the others, e.g.
    `ActiveEncoder(queries="finest")`. Evidence of `coarse` counts its tokens and levels without the finest.
    """

    def __init__(self, coarse: nn.Module, finest: nn.Module) -> None:
        super().__init__()
        self.coarse, self.finest = coarse, finest

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        """Memory of all levels, with the evidence of both."""
        coarse: Memory = self.coarse(tokens.coarser(), _coarser_pyramid(pyramid))
        encoded = torch.cat([tokens.level(0), coarse.tokens.content], dim=1)
        finest: Memory = self.finest(tokens.with_content(encoded), pyramid)
        proposing = finest.tokens
        if coarse.proposal_tokens is not coarse.tokens:
            proposing = tokens.with_content(torch.cat([finest.tokens.level(0), coarse.proposal_tokens.content], dim=1))
        return Memory(finest.tokens, proposing, (*coarse.evidence, *finest.evidence))

    @property
    def stand_in(self) -> str:
        """What attention reads at tokens that are not active."""
        return str(self.finest.stand_in)

    @property
    def checkpoint_activations(self) -> bool:
        """Whether both encoders recompute their layers in the backward pass."""
        return bool(self.coarse.checkpoint_activations)

    @checkpoint_activations.setter
    def checkpoint_activations(self, value: bool) -> None:
        self.coarse.checkpoint_activations = value  # type: ignore[assignment]
        self.finest.checkpoint_activations = value  # type: ignore[assignment]


def _coarser_pyramid(pyramid: FeaturePyramid) -> FeaturePyramid:
    return FeaturePyramid(pyramid.levels[1:], pyramid.padding[1:], pyramid.strides[1:], pyramid.canvas_padding)
