"""Every token gathers context from all levels around its own place (Zhu et al., Deformable DETR, ICLR 2021, section
4.1).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.utils.checkpoint import checkpoint

from smidgen.nn.deformable_layers import DeformableEncoderLayer, scale_reference
from smidgen.structures import FeaturePyramid, Memory, Tokens


class DeformableEncoder(nn.Module):
    """`num_layers` layers made by `layer`; all tokens are queries and values of each."""

    def __init__(self, layer: Callable[[], DeformableEncoderLayer], num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer() for _ in range(num_layers))
        self.checkpoint_activations = False

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        """Memory of the same tokens; the pyramid is not read."""
        content = tokens.content
        reference = scale_reference(tokens.centers(), tokens.valid_share)
        for layer in self.layers:
            arguments = (content, tokens.position, reference, content, tokens.shapes, tokens.padding)
            if self.checkpoint_activations and self.training:
                content = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                content = layer(*arguments)
        return Memory.of(tokens.with_content(content))
