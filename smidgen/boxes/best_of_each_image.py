"""The best rows of each image where the rows of a batch stand in one list, in different numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def best_of_each_image(
    scores: Float[Tensor, " n"], image: Int[Tensor, " n"], count: int, batch: int
) -> Int[Tensor, " m"]:
    """Indices of at most `count` rows of each image, image by image and best first; of equal scores the first row.

    image: of each row, in 0..batch - 1. On a GPU the host waits for the number of rows.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[image[order].argsort(stable=True)]
    number = torch.bincount(image, minlength=batch)
    start = number.cumsum(0) - number
    rank = torch.arange(len(order), device=order.device) - start[image[order]]
    return order[rank < count]
