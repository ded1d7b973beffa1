"""What an exported file answers: as many rows for every image, of which `valid` says which exist."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


class FixedDetections(NamedTuple):
    """D rows for each image, best first.

    boxes_xyxy: corners in [0, 1] of the image without its padding, so that they have only to be multiplied by the size
    of the image on disk. scores: 0 and labels: whatever in rows that are not valid.
    """

    boxes_xyxy: Float[Tensor, "B D 4"]
    scores: Float[Tensor, "B D"]
    labels: Int[Tensor, "B D"]
    valid: Bool[Tensor, "B D"]


def best_rows(values: Float[Tensor, "B N"], count: int) -> tuple[Float[Tensor, "B count"], Int[Tensor, "B count"]]:
    """The `count` largest values of each row and where they stand; -inf at 0 where a row has fewer than `count`.

    For any N: a `topk` of min(count, N) would bind the exported file to its example's side of that comparison.
    """
    best, index = F.pad(values, (0, count), value=-torch.inf).topk(count, dim=1)
    return best, index.masked_fill(index >= values.shape[1], 0)


def rows_at(values: Float[Tensor, "B N D"], index: Int[Tensor, "B m"]) -> Float[Tensor, "B m D"]:
    """The chosen rows of each image."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
