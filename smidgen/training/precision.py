"""bfloat16 inside the network, float32 for what it says: costs and losses of tiny boxes need the digits."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor


def autocast(precision: Literal["fp32", "bf16"], device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass. Not Accelerate's, which rewrites `model.forward`, also for later evaluations."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def as_float32(value: Any) -> Any:
    """Every half-precision tensor of nested dataclasses, tuples, lists and dicts in float32; all else as it is."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: as_float32(getattr(value, name)) for name in fields})
    if isinstance(value, dict):
        return {key: as_float32(item) for key, item in value.items()}
    return type(value)(as_float32(item) for item in value) if type(value) in (tuple, list) else value
