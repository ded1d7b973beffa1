"""Sine encodings of cells and of boxes (Vaswani et al. 2017; two-dimensional form of Carion et al., DETR, 2020)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def sine_features(
    coordinate: Float[Tensor, "*shape"], width: int, temperature: float = 10000.0, scale: float = 2 * math.pi
) -> Float[Tensor, "*shape width"]:
    """Interleaved sine and cosine of coordinate * scale at `width` / 2 frequencies temperature^(-2i / width)."""
    index = torch.arange(width // 2, device=coordinate.device, dtype=torch.float32)
    # Divided, not multiplied by the inverse: padded cells have huge coordinates, where parity needs the same rounding.
    phase = coordinate[..., None].float() * scale / temperature ** (2 * index / width)
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(-2)


def sine_of_boxes(
    boxes: Float[Tensor, "*shape D"],
    width: int,
    order: Literal["xywh", "yxwh"] = "yxwh",
    temperature: float = 10000.0,
    scale: float = 2 * math.pi,
) -> Float[Tensor, "*shape D_times_width"]:
    """`width` features for each coordinate of (cx, cy) or (cx, cy, w, h), concatenated in `order`."""
    if order == "yxwh":
        boxes = torch.cat([boxes[..., 1:2], boxes[..., 0:1], boxes[..., 2:]], dim=-1)
    return sine_features(boxes, width, temperature, scale).flatten(-2)


class SinePosition(nn.Module):
    """Encoding of map cells by their place among the cells that show the image; y features first, then x.

    temperature, offset: (20, 0) in DINO's original code, (10000, -0.5) in the Relation-DETR and Salience DETR
    repositories. Cells count from 1; `offset` is added before the division by the last valid cell's number.
    """

    def __init__(self, width: int, temperature: float = 10000.0, offset: float = 0.0) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"expected a width divisible by 4 (two axes, sine and cosine), got {width}")
        self.width, self.temperature, self.offset = width, temperature, offset

    def forward(self, padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B H W C"]:
        """Encode every cell; values at padded cells, which lie right of and below the image, mean nothing.

        Sines are taken once for each row and each column and then repeated over the map.
        """
        shown = ~padding
        rows, columns = shown[:, :, 0], shown[:, 0]
        y = self._encode(rows)[:, :, None].where(
            columns[:, None, :, None], self._encode(torch.zeros_like(rows[:1, :1]))
        )
        x = self._encode(columns)[:, None].where(rows[:, :, None, None], self._encode(torch.zeros_like(rows[:1, :1])))
        return torch.cat([y, x], dim=-1)

    def _encode(self, shown: Bool[Tensor, "B n"]) -> Float[Tensor, "B n c"]:
        """Features of one axis, on which cells count from the first one that is shown."""
        count = shown.float().cumsum(1)
        return sine_features((count + self.offset) / (count[:, -1:] + 1e-6), self.width // 2, self.temperature)
