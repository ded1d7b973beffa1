"""The tower of a dense head: 3x3 convolutions with ReLU, the same weights for every level of the pyramid.

Tsung-Yi Lin et al., "Focal Loss for Dense Object Detection" (RetinaNet), ICCV 2017, Section 4. No norm, or one that
folds into the convolution, so that the tower can be computed at chosen cells only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.merged_batch_norm import MergedBatchNorm
from smidgen.nn.overwriting import rectified
from smidgen.nn.sparse_convolution import Kernel
from smidgen.nn.valid_cells import zero_in_padding, zero_padded


class ConvolutionTower(nn.Module):
    """`num_layers` times convolution, norm (where there is one), ReLU."""

    def __init__(self, width: int, num_layers: int, norm: Callable[[int], MergedBatchNorm] | None = None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(num_layers))
        self.norms = nn.ModuleList() if norm is None else nn.ModuleList(norm(width) for _ in range(num_layers))

    def forward(
        self, levels: Sequence[Float[Tensor, "B C _ _"]], paddings: Sequence[Bool[Tensor, "B _ _"] | None]
    ) -> list[Float[Tensor, "B C _ _"]]:
        """The levels' towers, layer by layer. paddings: True at cells that are zero before every layer; None = none."""
        maps = [
            level if padding is None else zero_padded(level, padding) for level, padding in _pairs(levels, paddings)
        ]
        for index, convolution in enumerate(self.convolutions):
            maps = [convolution(level) for level in maps]
            maps = self.norms[index](maps) if len(self.norms) else maps
            maps = [rectified(_hidden(level, padding)) for level, padding in _pairs(maps, paddings)]
        return maps

    def kernels(self) -> tuple[Kernel, ...]:
        """The layers as they are now; norms are folded with their running statistics."""
        convolutions, norms = cast(Iterable[nn.Conv2d], self.convolutions), cast(Iterable[MergedBatchNorm], self.norms)
        kernels = [Kernel.of(convolution) for convolution in convolutions]
        if not len(self.norms):
            return tuple(kernels)
        return tuple(norm.folded(kernel) for norm, kernel in zip(norms, kernels, strict=True))


def _pairs(levels: Sequence[Tensor], paddings: Sequence[Tensor | None]) -> Iterable[tuple[Tensor, Tensor | None]]:
    return zip(levels, paddings, strict=True)


def _hidden(level: Tensor, padding: Tensor | None) -> Tensor:
    return level if padding is None else zero_in_padding(level, padding)
