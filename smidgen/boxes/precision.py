"""The one rule about number formats: geometry and losses are computed in float32 or better."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """float16 and bfloat16 become float32; float32 and float64 pass.

    bfloat16 has 8 significant bits: near 1 its steps are 1/256, as wide as a 3 px object in an image of 800 px.
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
