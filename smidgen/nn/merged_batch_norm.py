"""Batch norm with one set of statistics for all levels of a pyramid, which folds into the convolution before it.

Sergey Ioffe, Christian Szegedy, "Batch Normalization", ICML 2015, with the statistics of QueryDet's released FCOS head
("merged" batch norm): mean and mean square are averaged over the levels, each level weighing the same. A norm over
groups of channels cannot be computed at chosen cells only; this one is, once trained, part of the weights. Unlike in
the released code the same eps is used in training and folding, and the running statistics move on one process, too.
Several processes normalize by their own batch's statistics, where the released code takes those of all; the running
ones, which evaluation reads, are the mean over processes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.nn.process_mean import process_mean
from smidgen.nn.sparse_convolution import Kernel


class MergedBatchNorm(nn.Module):
    """Names and shapes of parameters and buffers are those of `nn.BatchNorm2d`."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """All levels, normalized by the batch's statistics in training, which move the running ones."""
        mean, variance = self._tracked(levels) if self.training else (self.running_mean, self.running_var)
        scale, shift = self._affine(mean, variance)
        return [(level * scale[:, None, None]).add_(shift[:, None, None]) for level in levels]

    def folded(self, kernel: Kernel) -> Kernel:
        """The convolution followed by this norm, with its running statistics, as one convolution."""
        scale, shift = self._affine(self.running_mean, self.running_var)
        return Kernel(kernel.weight * scale[:, None, None, None], kernel.bias * scale + shift)

    def _affine(self, mean: Float[Tensor, " C"], variance: Float[Tensor, " C"]) -> tuple[Tensor, Tensor]:
        scale = self.weight * (variance + self.eps).rsqrt()
        return scale, self.bias - mean * scale

    def _tracked(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        mean = torch.stack([level.float().mean(dim=(0, 2, 3)) for level in levels]).mean(dim=0)
        square = torch.stack([level.float().square().mean(dim=(0, 2, 3)) for level in levels]).mean(dim=0)
        self._move(*process_mean(torch.stack([mean, square])))
        return mean, _variance(mean, square)

    @torch.no_grad()
    def _move(self, mean: Float[Tensor, " C"], square: Float[Tensor, " C"]) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(_variance(mean, square).to(self.running_var.dtype), self.momentum)


def _variance(mean: Float[Tensor, " C"], square: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    return (square - mean.square()).clamp(min=0)
