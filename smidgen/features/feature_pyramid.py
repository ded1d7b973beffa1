"""Every level sees what coarser levels understood: maps of one width, coarse meaning added to fine position.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 3; further levels as in RetinaNet (Lin
et al., 2017, section 4), FCOS (Tian et al., 2019) or Faster R-CNN. No norm and no activation. A level P2 is made like
the others. Where a map is not exactly twice as long as the coarser one, which stops the official codes, each fine cell
reads the coarse cell that covers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.structures import FeaturePyramid

TopLevels: TypeAlias = Literal["c5", "p5", "pool"]


class FeaturePyramidNetwork(nn.Module):
    """Maps C2..C5 (or C3..C5) of a backbone to P2..P7 (P3..P7), all `width` channels wide.

    in_channels: of the backbone's maps, finest first. num_levels: of the result; those that the backbone lacks are made
    with stride 2, each from the level before it. top: what the first of these reads: "c5" = the backbone's last map
    (RetinaNet, QueryDet), "p5" = the last merged one (FCOS), by 3x3 convolutions with a ReLU before all but the first;
    "pool" = every second cell of the level before, without parameters (Faster R-CNN).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        width: int = 256,
        *,
        top: TopLevels = "c5",
        num_levels: int | None = None,
    ) -> None:
        super().__init__()
        num_levels = len(in_channels) + 2 if num_levels is None else num_levels
        _check(in_channels, top, num_levels)
        self.num_levels, self.from_merged = num_levels, top == "p5"
        self.laterals = nn.ModuleList(_convolution(channels, width, 1) for channels in in_channels)
        self.outputs = nn.ModuleList(_convolution(width, width, 3) for _ in in_channels)
        num_convolved = 0 if top == "pool" else num_levels - len(in_channels)
        inputs = [in_channels[-1] if top == "c5" else width, *[width] * num_levels][:num_convolved]
        self.top = nn.ModuleList(_convolution(channels, width, 3, stride=2) for channels in inputs)

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """The result's level i has the stride of the backbone's level i; strides of further levels double."""
        levels = self._merged(pyramid.levels)
        levels += self._top_levels(levels[-1] if self.from_merged else pyramid.levels[-1])
        while len(levels) < self.num_levels:
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        strides = list(pyramid.strides)
        while len(strides) < self.num_levels:
            strides.append(strides[-1] * 2)
        return FeaturePyramid.of(levels, pyramid.canvas_padding, strides)

    def _merged(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels: list[Tensor] = []
        merged: Tensor | None = None
        for lateral, output, raw in reversed(list(zip(self.laterals, self.outputs, maps, strict=True))):
            fine: Tensor = lateral(raw)
            merged = fine if merged is None else fine + _doubled(merged, (fine.shape[-2], fine.shape[-1]))
            levels.insert(0, output(merged))
        return levels

    def _top_levels(self, source: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for convolution in self.top:
            levels.append(convolution(F.relu(levels[-1]) if levels else source))
        return levels


def _doubled(coarse: Float[Tensor, "B C _ _"], shape: tuple[int, int]) -> Float[Tensor, "B C _ _"]:
    """Every cell four times; cut, or continued with the last cells, to `shape`."""
    doubled = F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., : shape[0], : shape[1]]
    missing = (shape[0] - doubled.shape[-2], shape[1] - doubled.shape[-1])
    return F.pad(doubled, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else doubled


def _convolution(width_in: int, width_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2)
    # The official code's "Xavier" of Caffe2: uniform in +-sqrt(3 / fan_in).
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _check(in_channels: Sequence[int], top: str, num_levels: int) -> None:
    if not in_channels or num_levels < len(in_channels):
        raise ValueError(
            f"expected at least one backbone map and no fewer levels, got {len(in_channels)} maps, {num_levels} levels"
        )
    if top not in ("c5", "p5", "pool"):
        raise ValueError(f'expected top levels from "c5", "p5" or "pool", got {top!r}')
