"""A count as one process on the whole batch would see it, divided by the number of processes."""

from __future__ import annotations

import torch
import torch.distributed
from jaxtyping import Num
from torch import Tensor


@torch.no_grad()
def process_mean(count: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Mean over all processes, as floating point: sums divided by it and averaged over processes, as gradients are, are
    those of one process on the whole batch. The count itself where there is one process.
    """
    count = count if count.is_floating_point() else count.float()
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return count
    total = count.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()
