"""Multi-layer perceptron with ReLU between its layers: box heads, query positions, feed-forward blocks."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.nn.overwriting import rectified


class MLP(nn.Module):
    """Linear layers of the given widths; `MLP(256, 256, 256, 4)` has three. Linear weights are Xavier, biases zero.

    full_precision: computes in float32 under autocast, too. Boxes need it: the 8 bits of bfloat16 are a pixel and more.
    """

    def __init__(self, *widths: int, full_precision: bool = False) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"expected at least an input and an output width, got {widths}")
        layers = [nn.Linear(before, after) for before, after in pairwise(widths)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)
        self.full_precision = full_precision

    def forward(self, features: Float[Tensor, "*shape c_in"]) -> Float[Tensor, "*shape c_out"]:
        """Apply the layers; no activation after the last."""
        if self.full_precision and torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self._apply_layers(features.float())
        return self._apply_layers(features)

    def _apply_layers(self, features: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            features = rectified(layer(features))
        return self.layers[-1](features)
