"""Where deformable attention samples: offsets that a query predicts, around a point or a box.

Zhu, Su, Lu, Li, Wang, Dai: Deformable DETR, ICLR 2021, appendix A.4 (points) and A.3 (boxes).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def locate_samples(
    offsets: Float[Tensor, "B Q heads L P 2"],
    reference: Float[Tensor, "B Q L D"],
    shapes: Sequence[tuple[int, int]],
) -> Float[Tensor, "B Q heads L P 2"]:
    """(x, y) of the samples in [0, 1] of each level's canvas.

    reference: points (x, y) or boxes (cx, cy, w, h) in the same frame. offsets: in cells around a point, in half box
    sizes / P around a box.
    """
    around = reference[:, :, None, :, None]
    if reference.shape[-1] == 4:
        return around[..., :2] + offsets / offsets.shape[-2] * around[..., 2:] * 0.5
    return around + offsets / _cells_wh(shapes, reference)[:, None]


def _cells_wh(shapes: Sequence[tuple[int, int]], like: Tensor) -> Float[Tensor, "L 2"]:
    """(columns, rows) of each level in float32, on the device of `like`.

    Not `torch.tensor(shapes)`, which would bake the sizes of the example image into an exported model.
    """
    sizes = [like.new_full((), size, dtype=torch.float32) for rows, columns in shapes for size in (columns, rows)]
    return torch.stack(sizes).view(-1, 2)
