"""A sum over very many rows whose terms are made chunk by chunk, and again in the backward pass instead of being kept.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. RetinaNet's class loss at stride 4 of an 800 x 1333
image has 48 million terms for 80 classes, 0.2 GB, and its formula about ten intermediate results of that size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# 16 MB for each intermediate result; below, everything is kept as usual.
ELEMENTS_AT_ONCE = 2**22


def recomputed_sum(
    terms: Callable[[Tensor, Tensor], Tensor],
    values: Float[Tensor, "n D"],
    labels: Int[Tensor, " n"],
    elements_at_once: int = ELEMENTS_AT_ONCE,
) -> Float[Tensor, ""]:
    """Sum of `terms(values, labels)`, whose rows must not depend on each other; without randomness."""
    rows = max(1, elements_at_once // max(1, values.shape[1]))
    if len(values) <= rows:
        return terms(values, labels).sum()
    chunks = zip(values.split(rows), labels.split(rows), strict=True)
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.stack([checkpoint(_sum, terms, *chunk, **options) for chunk in chunks]).sum()


def _sum(terms: Callable[[Tensor, Tensor], Tensor], values: Tensor, labels: Tensor) -> Tensor:
    return terms(values, labels).sum()
