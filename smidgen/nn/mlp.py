"""Multi-layer perceptron with ReLU between its layers: box heads, query positions, feed-forward blocks."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers of the given widths; `MLP(256, 256, 256, 4)` has three. Linear weights are Xavier, biases zero."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"expected at least an input and an output width, got {widths}")
        layers = [nn.Linear(before, after) for before, after in pairwise(widths)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Float[Tensor, "*shape c_in"]) -> Float[Tensor, "*shape c_out"]:
        """Apply the layers; no activation after the last."""
        for layer in self.layers[:-1]:
            features = layer(features).relu()
        return self.layers[-1](features)
