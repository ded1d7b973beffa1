"""Feature maps of several strides over one canvas; level 0 is the finest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class FeaturePyramid:
    """Maps from fine to coarse.

    padding: per level, True at cells that show no image.
    strides: nominal pixels per cell; canvas_padding: the mask of the padded canvas in pixels, from which every level's
    mask is sampled (a level added later reads it, too).
    """

    levels: tuple[Float[Tensor, "B _ _ _"], ...]
    padding: tuple[Bool[Tensor, "B _ _"], ...]
    strides: tuple[int, ...]
    canvas_padding: Bool[Tensor, "B H W"]

    @staticmethod
    def of(
        levels: Sequence[Float[Tensor, "B _ _ _"]], padding: Bool[Tensor, "B H W"], strides: Sequence[int]
    ) -> FeaturePyramid:
        """A pyramid whose masks are read from the canvas's padding."""
        masks = tuple(resize_padding(padding, (level.shape[-2], level.shape[-1])) for level in levels)
        return FeaturePyramid(tuple(levels), masks, tuple(strides), padding)

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the padded canvas in pixels."""
        return self.canvas_padding.shape[-2], self.canvas_padding.shape[-1]

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each level."""
        return tuple((level.shape[-2], level.shape[-1]) for level in self.levels)


def resize_padding(padding: Bool[Tensor, "B H W"], shape: tuple[int, int]) -> Bool[Tensor, "B h w"]:
    """Nearest (floor) sampling of a padding mask, as every official DETR code does it."""
    return F.interpolate(padding[:, None].float(), size=shape, mode="nearest")[:, 0].to(torch.bool)
