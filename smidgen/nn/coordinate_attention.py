"""Which rows and columns matter is decided from the means along the other axis.

Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, equations 4 to 9. Differs from the
official code: a ReLU without batch norm in place of batch norm and h-swish, and a row's mean is that of its cells that
show the image, so that padding has no say.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.valid_cells import zero_padded


class CoordinateAttention(nn.Module):
    """Two numbers in (0, 1) for every channel and cell: one of its row, one of its column.

    Both come from one hidden layer of `hidden` channels, by default width / 32 and at least 8.
    """

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = max(8, width // 32) if hidden is None else hidden
        self.hidden = nn.Conv1d(width, hidden, 1)
        self.rows = nn.Conv1d(hidden, width, 1)
        self.columns = nn.Conv1d(hidden, width, 1)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """The map with its rows and columns weighted."""
        means = torch.cat([_mean_along(3, features, padding), _mean_along(2, features, padding)], dim=2)
        rows, columns = self.hidden(means).relu().split(features.shape[2:], dim=2)
        return features * self.rows(rows).sigmoid()[..., None] * self.columns(columns).sigmoid()[:, :, None]


def _mean_along(
    axis: int, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]
) -> Float[Tensor, "B C cells"]:
    """Mean over valid cells; 0 where a row or column has none."""
    count = (~padding).sum(dim=axis - 1).clamp(min=1)
    precise = torch.promote_types(features.dtype, torch.float32)
    return (zero_padded(features, padding).sum(dim=axis, dtype=precise) / count[:, None]).to(features.dtype)
