"""Whether a tensor can be looked into: counting of operations, compilation and export run on shapes alone."""

from __future__ import annotations

import torch
from torch import Tensor


def has_values(tensor: Tensor) -> bool:
    """False where only shapes are traced. What depends on values then has to take as much room as it ever does."""
    return type(tensor) is Tensor and not tensor.is_meta and not torch.compiler.is_compiling()
