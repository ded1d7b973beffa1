"""Tokens that the encoder leaves alone still learn where they are: a learned embedding of row and column.

Hou et al., "Salience DETR", CVPR 2024, section 3.2 ("background embedding"). As in the official code it is added once,
after the last encoder layer, to every token that this layer did not refine.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.structures import Tokens


class BackgroundEmbedding(nn.Module):
    """`size` learned rows and columns of width / 2, the same for all levels; starts as U(0, 1).

    An image with more cells than the table along an axis reads it stretched over its own cells, whatever the canvas
    (the official code fails there).
    """

    def __init__(self, width: int, size: int = 200) -> None:
        super().__init__()
        self.row, self.column = (nn.Embedding(size, width // 2) for _ in range(2))
        for table in (self.row, self.column):
            nn.init.uniform_(table.weight)

    def forward(self, tokens: Tokens, background: Bool[Tensor, "B N"]) -> Float[Tensor, "B N C"]:
        """The tokens' content, the embedding added where `background` is True."""
        shares = tokens.valid_share.unbind(dim=1)
        levels = [self._of_level(*level) for level in zip(tokens.shapes, shares, strict=True)]
        return tokens.content + torch.cat(levels, dim=1) * background[..., None]

    def _of_level(self, shape: tuple[int, int], valid_share: Float[Tensor, "B 2"]) -> Float[Tensor, "B1 n C"]:
        """One row for all images where the table is long enough."""
        rows, columns = shape
        column = _entries(self.column.weight, columns, valid_share[:, 0])[:, None].expand(-1, rows, -1, -1)
        row = _entries(self.row.weight, rows, valid_share[:, 1])[:, :, None].expand(-1, -1, columns, -1)
        images = max(len(column), len(row))
        both = (column.expand(images, -1, -1, -1), row.expand(images, -1, -1, -1))
        return torch.cat(both, dim=-1).flatten(1, 2)


def _entries(table: Float[Tensor, "size c"], count: int, valid_share: Float[Tensor, " B"]) -> Float[Tensor, "B1 n c"]:
    """The first `count` entries, or, for a longer axis, entries between which each image's own cells are spread."""
    size = len(table)
    if count <= size:
        return table[None, :count]
    valid = (valid_share * count).clamp(min=2)
    step = torch.where(valid > size, (size - 1) / (valid - 1), 1.0)
    place = (torch.arange(count, device=table.device) * step[:, None]).clamp(max=size - 1)
    before = place.long().clamp(max=size - 2)
    share = (place - before)[..., None].to(table.dtype)
    return table[before] * (1 - share) + table[before + 1] * share
