"""Where a detector looked: salience maps (Salience DETR) or query maps (QueryDet) as one small gray picture."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from smidgen.structures import evidence_of
from smidgen.tokens.salience_filtering import SalienceMaps


@dataclass(frozen=True, slots=True)
class SalienceMap:
    """values: in [0, 1], of the cells that begin inside the image. covers_wh: pixels of the original image under them;
    the last cells may reach beyond it.
    """

    values: Float[Tensor, "H W"]
    covers_wh: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """{"png", "width", "height", "covers"}: base64 of an 8-bit gray PNG (255 = 1.0), its size, `covers_wh`."""
        stored = io.BytesIO()
        gray = (self.values.float().cpu() * 255).round().to(torch.uint8).numpy()
        Image.fromarray(gray).save(stored, format="PNG")
        rows, columns = self.values.shape
        text = base64.b64encode(stored.getvalue()).decode("ascii")
        return {"png": text, "width": columns, "height": rows, "covers": [round(side, 2) for side in self.covers_wh]}


def salience_maps(output: Any, sizes_hw: list[tuple[int, int]], original_hw: list[tuple[int, int]]) -> list[Any]:
    """Of every image its SalienceMap, or None where the system has no such thing.

    output: a DetectorOutput or DenseOutput. sizes_hw: of the images in the network's input. Levels are joined by the
    larger value.
    """
    levels, canvas_hw = _levels(output)
    if not levels:
        return [None] * len(sizes_hw)
    joined = _joined(levels)
    return [
        _inside(joined[index], canvas_hw, size, original)
        for index, (size, original) in enumerate(zip(sizes_hw, original_hw, strict=True))
    ]


def _levels(output: Any) -> tuple[list[Tensor], tuple[int, int]]:
    """Logits "B H W" of every level that has a map, and the canvas that they span."""
    maps = evidence_of(output.evidence, SalienceMaps)
    if maps is not None:
        return list(maps.logits), maps.canvas_hw
    return [logits for _, logits in getattr(output, "query_logits", ())], getattr(output, "canvas_hw", (1, 1))


def _joined(levels: list[Tensor]) -> Tensor:
    finest = max(levels, key=lambda level: level[0].numel()).shape[-2:]
    resized = [F.interpolate(level[:, None].float().sigmoid(), size=finest)[:, 0] for level in levels]
    return torch.stack(resized).amax(dim=0)


def _inside(
    values: Tensor, canvas_hw: tuple[int, int], size_hw: tuple[int, int], original_hw: tuple[int, int]
) -> SalienceMap:
    shape = values.shape
    cell_hw = [canvas / cells for canvas, cells in zip(canvas_hw, shape, strict=True)]
    rows, columns = (
        min(count, int(-(-size // cell))) for count, size, cell in zip(shape, size_hw, cell_hw, strict=True)
    )
    height = rows * cell_hw[0] * original_hw[0] / size_hw[0]
    width = columns * cell_hw[1] * original_hw[1] / size_hw[1]
    return SalienceMap(values[:rows, :columns], (width, height))
