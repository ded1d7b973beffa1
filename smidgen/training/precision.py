"""bfloat16 inside the network, float32 for what it says: costs and losses of tiny boxes need the digits."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import torch

from smidgen.boxes.precision import as_float32

__all__ = ["as_float32", "autocast"]


def autocast(precision: Literal["fp32", "bf16"], device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass. Not Accelerate's, which rewrites `model.forward`, also for later evaluations."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
