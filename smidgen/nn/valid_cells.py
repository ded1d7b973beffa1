"""Statistics over the cells that show the image, so that what pads a map changes nothing.

Masks are True where padded. A mean or norm over a padded canvas depends on the batch mates that made it large; these do
not.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def zero_padded(features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
    """The map with zeros in padded cells: what a convolution sees beyond the image's border, too."""
    return features.masked_fill(padding[:, None], 0.0)


def mean_of_valid(features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C"]:
    """Mean over valid cells, in float32; 0 where an image has none."""
    return sum_of_valid(features, padding) / (~padding).sum(dim=(1, 2)).clamp(min=1)[:, None]


def sum_of_valid(features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C"]:
    """Sum over valid cells, in float32."""
    return zero_padded(features, padding).sum(dim=(2, 3), dtype=torch.float32)


def max_of_valid(features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C"]:
    """Maximum over valid cells; 0 where an image has none."""
    largest = features.masked_fill(padding[:, None], -torch.inf).amax(dim=(2, 3))
    return largest.masked_fill(padding.all(dim=2).all(dim=1)[:, None], 0.0)


class ValidGroupNorm(nn.Module):
    """Group norm (Wu and He, 2018) whose mean and variance are those of the valid cells; padded cells come out as 0.

    Names and shapes of its parameters are those of `nn.GroupNorm`.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """Normalized map, in the type of `features`."""
        grouped = features.float().unflatten(1, (self.num_groups, -1))
        shown = ~padding[:, None, None]
        count = (shown.sum(dim=(3, 4), keepdim=True) * grouped.shape[2]).clamp(min=1)
        mean = (grouped * shown).sum(dim=(2, 3, 4), keepdim=True) / count
        centered = (grouped - mean) * shown
        variance = centered.square().sum(dim=(2, 3, 4), keepdim=True) / count
        normalized = (centered * (variance + self.eps).rsqrt()).flatten(1, 2)
        scaled = normalized * self.weight[:, None, None] + self.bias[:, None, None]
        return zero_padded(scaled, padding).to(features.dtype)
