"""The one rule about number formats: geometry and losses are computed in float32 or better."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """float16 and bfloat16 become float32; float32 and float64 pass.

    bfloat16 has 8 significant bits: near 1 its steps are 1/256, as wide as a 3 px object in an image of 800 px.
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def as_float32(value: Any) -> Any:
    """Every half-precision tensor of nested dataclasses, tuples, lists and dicts in float32; all else as it is."""
    if isinstance(value, Tensor):
        return full_precision(value) if value.dtype in (torch.bfloat16, torch.float16) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: as_float32(getattr(value, name)) for name in fields})
    if isinstance(value, dict):
        return {key: as_float32(item) for key, item in value.items()}
    return type(value)(as_float32(item) for item in value) if type(value) in (tuple, list) else value
