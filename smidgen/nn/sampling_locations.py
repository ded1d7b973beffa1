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
    num_points, rows = offsets.shape[4], offsets.flatten(3)
    if reference.shape[-1] == 4:
        centers, sides = (_in_rows(part, num_points) for part in (reference[..., :2], reference[..., 2:]))
        located = (rows / num_points * sides).mul_(0.5).add_(centers)
    else:
        cells = _cells_wh(shapes, reference)
        located = (rows / _in_rows(cells[None, None], num_points)).add_(_in_rows(reference, num_points))
    return located.view_as(offsets)


def _in_rows(levels: Float[Tensor, "B Q L 2"], num_points: int) -> Float[Tensor, "B Q 1 L_times_P_times_2"]:
    """A pair for each point: arithmetic on rows of memory is 10 times as fast on a CPU as on repeated pairs."""
    return levels[:, :, :, None].expand(-1, -1, -1, num_points, -1).flatten(2)[:, :, None]


def _cells_wh(shapes: Sequence[tuple[int, int]], like: Tensor) -> Float[Tensor, "L 2"]:
    """(columns, rows) of each level in float32, on the device of `like`.

    Not `torch.tensor(shapes)`, which would bake the sizes of the example image into an exported model.
    """
    sizes = [like.new_full((), size, dtype=torch.float32) for rows, columns in shapes for size in (columns, rows)]
    return torch.stack(sizes).view(-1, 2)
