"""Coarse hits choose the fine cells that get computed: which cells, given the query logits of the level above.

Chenhongyi Yang, Zehao Huang, Naiyan Wang, "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small
Object Detection", CVPR 2022, Section 3.3 and Equation 6. A cell whose query score is above the threshold is a query;
its four children are the keys, the cells of the next finer level that answer; keys and their context are the active
cells, those that get computed.

Differences from the official code: batches of any size; keys are clipped to the finer level, whose sides may be odd;
padded cells are neither queries nor keys nor context; a budget for each image (not in the paper) keeps the best. The
threshold of the paper's tables is 0.15, that of the released configurations 0.12.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from smidgen.structures import Cells


@dataclass(frozen=True)
class CascadeSparseQuery:
    """The choice of cells.

    threshold: a query's score is strictly above it; below 0 every cell that was computed is a query. context: cells to
    each side of a key that are computed, too (2 = 5x5; from the depth of the heads on, 5 = 11x11, keys get the dense
    values). start: index of the finest level whose heads run densely and where the cascade starts; 0 = no cascade.
    budget: at most this number (int) or share (float) of an image's cells on a finer level become keys, those under the
    best scores (of equal ones the first); None = no limit. Neither context nor the canvas's padding is counted; a share
    of less than four cells is none.
    """

    threshold: float = 0.15
    context: int = 2
    start: int = 2
    budget: int | float | None = None

    def __post_init__(self) -> None:
        if not self.threshold <= 1:
            raise ValueError(f"expected a threshold of at most 1, got {self.threshold}; change model.cascade.threshold")
        if self.context < 0 or self.start < 0:
            raise ValueError(
                f"expected context and start of at least 0, got {self.context} and {self.start}; change model.cascade"
            )
        if isinstance(self.budget, float) and not 0 < self.budget <= 1:
            raise ValueError(
                f"expected a budget above 0 and up to 1 as a share of cells, got {self.budget}; "
                "change model.cascade.budget"
            )
        if isinstance(self.budget, int) and self.budget < 4:
            raise ValueError(
                f"expected a budget of at least one query's 4 keys, got {self.budget}; change model.cascade.budget"
            )

    def queries(
        self,
        query_logits: Float[Tensor, "B H W"],
        fine_shape: tuple[int, int],
        valid: Bool[Tensor, "B rows columns"] | None = None,
    ) -> Cells:
        """The cells that fire; arguments as in `fires`."""
        return Cells.where(self.fires(query_logits, fine_shape, valid))

    def fires(
        self,
        query_logits: Float[Tensor, "B H W"],
        fine_shape: tuple[int, int],
        valid: Bool[Tensor, "B rows columns"] | None = None,
    ) -> Bool[Tensor, "B H W"]:
        """Where a query is. query_logits: -inf where not computed. fine_shape, valid: of the level of the keys, as in
        `keys`.
        """
        # In half precision a sigmoid has too few steps near the threshold.
        scores = query_logits.to(torch.promote_types(query_logits.dtype, torch.float32)).sigmoid()
        fires = (scores > self.threshold) & (query_logits > -torch.inf)
        if self.budget is not None:
            fires = fires & _best(scores, fires, self._most_queries(fires.shape[0], fine_shape, valid).to(fires.device))
        return fires

    def keys(
        self,
        query_logits: Float[Tensor, "B H W"],
        fine_shape: tuple[int, int],
        valid: Bool[Tensor, "B rows columns"] | None = None,
    ) -> Cells:
        """The cells of the finer level that answer. valid: False at padded cells of that level; None = none is."""
        return restricted(children(self.queries(query_logits, fine_shape, valid), fine_shape), valid)

    def _most_queries(
        self, batch: int, fine_shape: tuple[int, int], valid: Bool[Tensor, "B rows columns"] | None
    ) -> Int[Tensor, " B"]:
        """Of each image. A share is one of its own cells: a batch mate that enlarges the canvas changes nothing."""
        assert self.budget is not None
        if isinstance(self.budget, int):
            return torch.full((batch,), self.budget // 4)
        cells = torch.full((batch,), fine_shape[0] * fine_shape[1]) if valid is None else valid.sum(dim=(1, 2))
        # In integers, so that it is the same on any device.
        share = Fraction(self.budget).limit_denominator(10**6)
        return cells * share.numerator // (share.denominator * 4)


def children(cells: Cells, fine_shape: tuple[int, int]) -> Cells:
    """The (up to) four cells of the finer level under each cell: rows 2y and 2y + 1, columns 2x and 2x + 1.

    fine_shape: of the finer level; where a side is odd, the coarser level has (side + 1) / 2 cells and the last one has
    children on the map and outside of it, which are dropped.
    """
    step = torch.arange(2, device=cells.row.device)
    row = (2 * cells.row[:, None, None] + step[:, None]).expand(-1, 2, 2).flatten()
    column = (2 * cells.column[:, None, None] + step).expand(-1, 2, 2).flatten()
    image = cells.image.repeat_interleave(4)
    order = ((image * 2 * cells.shape[0] + row) * 2 * cells.shape[1] + column).argsort()
    fine = Cells(image[order], row[order], column[order], fine_shape, cells.batch)
    if fine_shape == (2 * cells.shape[0], 2 * cells.shape[1]):
        return fine
    return _kept(fine, (fine.row < fine_shape[0]) & (fine.column < fine_shape[1]))


def with_context(keys: Cells, context: int, valid: Bool[Tensor, "B H W"] | None = None) -> Cells:
    """All cells at most `context` rows and columns from a key: keys dilated by a square, on the map, not padded."""
    if context == 0:
        return restricted(keys, valid)
    chosen = near_map(keys.mask(), context)
    return Cells.where(chosen if valid is None else chosen & valid)


def near_map(keys: Bool[Tensor, "B H W"], context: int) -> Bool[Tensor, "B H W"]:
    """True at most `context` rows and columns from a key."""
    near = keys[:, None].float()
    # A square is as good as a row of it and then a column.
    near = F.max_pool2d(near, (1, 2 * context + 1), 1, (0, context))
    near = F.max_pool2d(near, (2 * context + 1, 1), 1, (context, 0))
    return near[:, 0] > 0


def children_of_map(fires: Bool[Tensor, "B h w"], fine_shape: tuple[int, int]) -> Bool[Tensor, "B H W"]:
    """`children` as a map: True at the cells of the finer level under those that fire."""
    row, column = (torch.arange(side, device=fires.device) // 2 for side in fine_shape)
    return fires[:, row][:, :, column]


def restricted(cells: Cells, valid: Bool[Tensor, "B H W"] | None) -> Cells:
    """Those of the cells that are valid; all for None."""
    return cells if valid is None else _kept(cells, valid[cells.image, cells.row, cells.column])


def on_map(cells: Cells, values: Float[Tensor, " n"], elsewhere: float = -torch.inf) -> Float[Tensor, "B H W"]:
    """The values at their cells, `elsewhere` at all others."""
    level = values.new_full((cells.batch * cells.shape[0] * cells.shape[1],), elsewhere)
    return level.index_copy(0, cells.index, values).view(cells.batch, *cells.shape)


def _best(
    scores: Float[Tensor, "B H W"], fires: Bool[Tensor, "B H W"], counts: Int[Tensor, " B"]
) -> Bool[Tensor, "B H W"]:
    """So many of the best-scored firing cells of each image (and others where fewer fire)."""
    ranked = scores.masked_fill(~fires, -1.0).flatten(1)
    place = ranked.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (place < counts[:, None]).view_as(fires)


def _kept(cells: Cells, which: Bool[Tensor, " n"]) -> Cells:
    return Cells(cells.image[which], cells.row[which], cells.column[which], cells.shape, cells.batch)
