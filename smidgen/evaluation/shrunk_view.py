"""A labeled image as if taken from further away: shrunk by area average, on the canvas that the whole image would fill.

What the canvas holds beyond the view is padding, as beside a larger image in a batch: the levels and the number of
queries stay as they are, and only the size of things changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from smidgen.data.geometry import resize_pixels
from smidgen.data.sample import Sample
from smidgen.structures import ImageBatch


@dataclass(frozen=True, slots=True)
class ShrunkView:
    """pixels: the network's input without padding, to which boxes_xyxy belong. labels: as in the sample."""

    scale: float
    pixels: UInt8[Tensor, "3 H W"]
    boxes_xyxy: Float[Tensor, "M 4"]
    labels: Int[Tensor, " M"]


def shrink(sample: Sample, scale: float, canvas_hw: tuple[int, int]) -> ShrunkView:
    """The sample at `scale` in (0, 1]. canvas_hw: what the model's own rule makes of the whole image, in pixels.

    The image on disk is shrunk, and then resized by the factor by which the model resizes the whole one.
    """
    height, width = sample.size_hw
    shrunk = area_average(sample.image, (max(1, round(scale * height)), max(1, round(scale * width))))
    rows, columns = (max(1, round(scale * side)) for side in canvas_hw)
    factors = sample.boxes_xyxy.new_tensor([columns / width, rows / height] * 2)
    return ShrunkView(scale, resize_pixels(shrunk, (rows, columns)), sample.boxes_xyxy * factors, sample.labels)


def on_canvas(views: Sequence[ShrunkView], canvas_hw: tuple[int, int], pad_multiple: int) -> ImageBatch:
    """A batch beside an image of the canvas' size, which is then taken away."""
    full = torch.zeros((3, *canvas_hw), dtype=torch.uint8)
    batch = ImageBatch.collate([*(view.pixels for view in views), full], pad_multiple)
    return ImageBatch(batch.pixels[:-1], batch.padding[:-1], batch.sizes[:-1])


def area_average(image: UInt8[Tensor, "3 H W"], size_hw: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    """Shrink so that each pixel is the mean of exactly the rectangle that it covers, rounded."""
    rows = _mean_along(image.double(), size_hw[0], dim=1)
    return _mean_along(rows, size_hw[1], dim=2).round().to(torch.uint8)


def _mean_along(values: Tensor, cells: int, dim: int) -> Tensor:
    """Means over `cells` equal parts of an axis, as differences of its running sum."""
    length = values.shape[dim]
    if cells == length:
        return values
    sums = torch.cat([torch.zeros_like(values.narrow(dim, 0, 1)), values.cumsum(dim)], dim)
    edges = torch.arange(cells + 1, dtype=torch.float64) * length / cells
    before = edges.long().clamp(max=length - 1)
    part = (edges - before).view([-1 if axis == dim else 1 for axis in range(3)])
    at_edges = torch.lerp(sums.index_select(dim, before), sums.index_select(dim, before + 1), part)
    return at_edges.diff(dim=dim) * (cells / length)
