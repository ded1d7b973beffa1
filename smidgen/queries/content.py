"""What a query contains when the decoder starts: learned, the proposal's feature, an encoding of its box."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.nn.initialize import xavier_linear
from smidgen.nn.position_encoding import sine_of_boxes
from smidgen.structures import Memory, Places


class LearnedContent(nn.Module):
    """DINO's mixed query selection: row i of a learned table, wherever query i is placed. Starts as N(0, 1)."""

    def __init__(self, num_queries: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_queries, width)

    def forward(self, memory: Memory, places: Places) -> Float[Tensor, "B Q C"]:
        """The first Q rows for every image."""
        return _rows(self.table.weight, places)


class IndicatorContent(nn.Module):
    """DN-DETR: a learned table of C - 1 numbers (zero at first) and a zero that says "not a denoising query"."""

    def __init__(self, num_queries: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_queries, width - 1)
        nn.init.zeros_(self.table.weight)

    def forward(self, memory: Memory, places: Places) -> Float[Tensor, "B Q C"]:
        """The first Q rows with the indicator column appended."""
        rows = _rows(self.table.weight, places)
        return torch.cat([rows, rows.new_zeros(rows.shape[:-1])[..., None]], dim=-1)


class PlaceContent(nn.Module):
    """The content that came with the place: the proposal's feature (DAB, DQ-DETR) or a learned row (one-stage).

    detach: no gradient from the decoder into proposal features, as in the official codes.
    """

    def __init__(self, detach: bool = True) -> None:
        super().__init__()
        self.detach = detach

    def forward(self, memory: Memory, places: Places) -> Float[Tensor, "B Q C"]:
        """The places' own content."""
        if places.content is None:
            raise ValueError("expected places with content (from proposals or LearnedPoints), got places without")
        return places.content.detach() if self.detach else places.content


class SineContent(nn.Module):
    """Two-stage Deformable DETR: a linear layer and norm over the sine encoding of the selected box."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = xavier_linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Memory, places: Places) -> Float[Tensor, "B Q C"]:
        """Content that depends on the place alone."""
        encoding = sine_of_boxes(places.reference, self.projection.out_features // 2, order="xywh")
        return self.norm(self.projection(encoding))


def _rows(table: Float[Tensor, "R C"], places: Places) -> Float[Tensor, "B Q C"]:
    batch, num_queries = places.reference.shape[:2]
    if num_queries > len(table):
        raise ValueError(
            f"expected at most {len(table)} queries for a learned table of as many rows, got {num_queries}; "
            "raise model.num_queries"
        )
    return table[:num_queries].expand(batch, -1, -1)
