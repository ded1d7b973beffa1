"""Initial values shared by heads and projections of the DETR family."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from smidgen.nn.mlp import MLP


def class_head(width: int, num_classes: int, prior: float = 0.01) -> nn.Linear:
    """Sigmoid classifier whose bias makes every class start with probability `prior` (Lin et al., focal loss, 2017)."""
    head = nn.Linear(width, num_classes)
    nn.init.constant_(head.bias, -math.log((1 - prior) / prior))
    return head


def box_head(width: int, size_bias: float = 0.0) -> MLP:
    """Three-layer box regressor whose last layer starts at zero; `size_bias` is the initial logit offset of w and h."""
    head = MLP(width, width, width, 4, full_precision=True)
    last: Any = head.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    nn.init.constant_(last.bias[2:], size_bias)
    return head


def xavier_linear(width_in: int, width_out: int) -> nn.Linear:
    """Linear layer with Xavier-uniform weight and zero bias."""
    layer = nn.Linear(width_in, width_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
