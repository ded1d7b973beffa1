"""What travels in the dense family: cells of a pyramid level, chosen or all, and what heads say of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of one level over a whole batch, in ascending order of (image, row, column); none stands twice.

    image, row, column: of each cell. shape: (rows, columns) of the level; batch: number of images.
    """

    image: Int[Tensor, " n"]
    row: Int[Tensor, " n"]
    column: Int[Tensor, " n"]
    shape: tuple[int, int]
    batch: int

    @staticmethod
    def all_of(batch: int, shape: tuple[int, int], device: torch.device | str = "cpu") -> Cells:
        """Every cell."""
        return Cells.where(torch.ones((batch, *shape), dtype=torch.bool, device=device))

    @staticmethod
    def where(chosen: Bool[Tensor, "B H W"]) -> Cells:
        """The cells that are True. On a GPU the host waits for their number."""
        image, row, column = chosen.nonzero(as_tuple=True)
        return Cells(image, row, column, (chosen.shape[1], chosen.shape[2]), chosen.shape[0])

    @property
    def index(self) -> Int[Tensor, " n"]:
        """Position in the flattened batch x rows x columns."""
        return (self.image * self.shape[0] + self.row) * self.shape[1] + self.column

    def mask(self) -> Bool[Tensor, "B H W"]:
        """True at the cells."""
        flat = torch.zeros(self.batch * self.shape[0] * self.shape[1], dtype=torch.bool, device=self.row.device)
        return flat.index_fill(0, self.index, True).unflatten(0, (self.batch, *self.shape))

    def read(self, level: Float[Tensor, "B C H W"]) -> Float[Tensor, "n C"]:
        """The level's features at the cells."""
        return level[self.image, :, self.row, self.column]

    def __len__(self) -> int:
        return self.row.shape[0]


@dataclass(frozen=True, slots=True)
class LevelAnswers:
    """What heads say of the cells of one level, A answers for each cell.

    logits: class logits (sigmoid, no background). regression: as the head gives it: deltas to the cell's anchors, or
    distances (left, top, right, bottom) in pixels. centerness: logits, where the head has them. cells: None = all cells
    of all images in order, so that n = B x H x W.
    """

    logits: Float[Tensor, "n A K"]
    regression: Float[Tensor, "n A 4"]
    centerness: Float[Tensor, "n A"] | None
    shape: tuple[int, int]
    batch: int
    cells: Cells | None = None

    def per_image(self, values: Float[Tensor, "n A D"]) -> Float[Tensor, "B N D"]:
        """Values of all cells as one row of N = H x W x A answers for each image, order (row, column, answer)."""
        if self.cells is not None:
            raise ValueError("expected answers of all cells, got those of chosen ones, whose number differs by image")
        return values.unflatten(0, (self.batch, -1)).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class DenseOutput:
    """Everything one forward pass of a dense detector says.

    levels: finest first; in evaluation with a cascade the finest hold the chosen cells only. strides: pixels per cell.
    canvas_hw: of the padded input in pixels; sizes_hw: of each image in it. query_logits: (level index, dense map)
    pairs that say where a small object is near (QueryDet). evidence: as in `DetectorOutput`.
    """

    levels: tuple[LevelAnswers, ...]
    strides: tuple[int, ...]
    canvas_hw: tuple[int, int]
    sizes_hw: tuple[tuple[int, int], ...]
    query_logits: tuple[tuple[int, Float[Tensor, "B _ _"]], ...] = ()
    evidence: tuple[object, ...] = ()
