"""Tokens that the encoder leaves alone still learn where they are: a learned embedding of row and column.

Hou et al., "Salience DETR", CVPR 2024, section 3.2 ("background embedding"). As in the official code it is added once,
after the last encoder layer, to every token that this layer did not refine.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.structures import Tokens


class BackgroundEmbedding(nn.Module):
    """`size` learned rows and columns of width / 2, the same for all levels; starts as U(0, 1).

    A map with more cells than the table along an axis reads it interpolated (the official code fails there).
    """

    def __init__(self, width: int, size: int = 200) -> None:
        super().__init__()
        self.row, self.column = (nn.Embedding(size, width // 2) for _ in range(2))
        for table in (self.row, self.column):
            nn.init.uniform_(table.weight)

    def forward(self, tokens: Tokens, background: Bool[Tensor, "B N"]) -> Float[Tensor, "B N C"]:
        """The tokens' content, the embedding added where `background` is True."""
        embedding = torch.cat([self._of_level(shape) for shape in tokens.shapes])
        return tokens.content + embedding * background[..., None]

    def _of_level(self, shape: tuple[int, int]) -> Float[Tensor, "n C"]:
        rows, columns = shape
        column = _entries(self.column.weight, columns).expand(rows, -1, -1)
        row = _entries(self.row.weight, rows)[:, None].expand(-1, columns, -1)
        return torch.cat([column, row], dim=-1).flatten(0, 1)


def _entries(table: Float[Tensor, "size c"], count: int) -> Float[Tensor, "count c"]:
    if count <= len(table):
        return table[:count]
    return F.interpolate(table.T[None], count, mode="linear", align_corners=True)[0].T
