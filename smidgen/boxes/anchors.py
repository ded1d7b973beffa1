"""Reference boxes of a few sizes and shapes on every cell of every level, and where cells lie in the image.

Ren et al., "Faster R-CNN", 2015, section 3.1.1; sizes per level as in Lin et al., "Focal Loss for Dense Object
Detection" (RetinaNet), 2017, section 4. As in the official QueryDet code, the middle of an anchor is the top left
corner of its cell (`offset` 0), while the query grid lies at the centers of the cells (0.5); many other codes use 0.5
for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.structures import Cells, send

OCTAVE_STEPS = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


def octave_sizes(base_px: Sequence[float], steps: Sequence[float] = OCTAVE_STEPS) -> tuple[tuple[float, ...], ...]:
    """RetinaNet's sizes: on each level its base times 1, 2^(1/3) and 2^(2/3), in pixels."""
    return tuple(tuple(base * step for step in steps) for base in base_px)


@dataclass(frozen=True)
class AnchorShapes:
    """A = sizes x ratios anchors for each cell of each level, size by size and within a size ratio by ratio.

    sizes: per level, finest first, square roots of the anchors' areas in pixels of the network input. ratios: height /
    width. offset: where in its cell an anchor's middle lies, 0 = top left corner, 0.5 = center.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not self.sizes or len({len(level) for level in self.sizes}) != 1:
            raise ValueError(f"expected equally many anchor sizes on every level, got {self.sizes}")
        if min(min(level) for level in self.sizes) <= 0 or min(self.ratios) <= 0:
            raise ValueError(f"expected anchor sizes and ratios above 0, got {self.sizes} and {self.ratios}")

    @property
    def num_anchors(self) -> int:
        """Anchors of one cell (A)."""
        return len(self.sizes[0]) * len(self.ratios)

    def of_level(
        self, level: int, shape: tuple[int, int], stride: int, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "HW A 4"]:
        """All anchors of a level of `shape` cells in order (row, column), xyxy pixels of the network input."""
        return self._around(level, cell_centers(shape, stride, self.offset, device))

    def at_cells(self, level: int, cells: Cells, stride: int) -> Float[Tensor, "n A 4"]:
        """The anchors of some cells, xyxy pixels of the network input."""
        return self._around(level, cell_centers(cells, stride, self.offset))

    def around_origin(self, level: int) -> Float[Tensor, "A 4"]:
        """The shapes of one level, xyxy pixels around (0, 0)."""
        size = torch.tensor(self.sizes[level], dtype=torch.float64)[:, None]
        ratio = torch.tensor(self.ratios, dtype=torch.float64)
        width = size / ratio.sqrt()
        half = torch.stack([width, ratio * width], dim=-1).flatten(0, 1) / 2
        return torch.cat([-half, half], dim=-1).float()

    def _around(self, level: int, middles: Float[Tensor, "n 2"]) -> Float[Tensor, "n A 4"]:
        return middles.repeat(1, 2)[:, None] + send(self.around_origin(level), middles.device)


def cell_centers(
    cells: Cells | tuple[int, int], stride: int, offset: float = 0.5, device: torch.device | str = "cpu"
) -> Float[Tensor, "n 2"]:
    """Points (x, y) of cells in pixels of the network input: (column + offset, row + offset) * stride.

    cells: chosen ones (which know their device), or the (rows, columns) of a level for all, row by row. Always float32:
    half precision cannot name every pixel above 2048.
    """
    if isinstance(cells, Cells):
        return (torch.stack([cells.column, cells.row], dim=-1).float() + offset) * stride
    y, x = (((torch.arange(count, device=device) + offset) * stride).float() for count in cells)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
