"""Statistics over the cells that show the image, so that what pads a map changes nothing.

Masks are True where padded. A mean or norm over a padded canvas depends on the batch mates that made it large; these do
not.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.overwriting import zeroed


def zero_padded(features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
    """The map with zeros in padded cells: what a convolution sees beyond the image's border, too."""
    return features.masked_fill(padding[:, None], 0.0)


def zero_in_padding(features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
    """`zero_padded` for a map that nobody else reads, written over at inference."""
    return zeroed(features, padding[:, None])


def mean_of_valid(features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C"]:
    """Mean over valid cells; 0 where an image has none."""
    count = (~padding).sum(dim=(1, 2)).clamp(min=1)
    return (sum_of_valid(features, padding) / count[:, None]).to(features.dtype)


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
        scaled = (normalized * self.weight[:, None, None]).add_(self.bias[:, None, None])
        return zero_in_padding(scaled, padding).to(features.dtype)


class ValidBatchNorm(nn.Module):
    """Batch norm (Ioffe and Szegedy, 2015) whose batch statistics are those of the valid cells.

    Names of parameters and buffers are those of `nn.BatchNorm2d`; unlike it, a single valid cell is no error in
    training. Padded cells are normalized, too: they mean nothing.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """Normalized by the batch's statistics in training, which move the running ones used in evaluation."""
        mean, variance = self._tracked(features, padding) if self.training else (self.running_mean, self.running_var)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (features * scale[:, None, None]).add_(shift[:, None, None]).to(features.dtype)

    def _tracked(self, features: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        shown = ~padding[:, None]
        count = shown.sum().clamp(min=1)
        mean = (features.float() * shown).sum(dim=(0, 2, 3)) / count
        variance = ((features.float() - mean[:, None, None]).square() * shown).sum(dim=(0, 2, 3)) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        return mean, variance
