"""What is written over its input at inference, where new memory costs a CPU several times what is computed in it.

For tensors that nobody else reads. Where gradients pass, the result is a new tensor: modules that were given backward
hooks do not allow their answers to be written over.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def rectified(features: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """max(features, 0)."""
    return features.relu() if features.requires_grad else features.relu_()


def zeroed(features: Float[Tensor, "*shape"], mask: Bool[Tensor, "*_"]) -> Float[Tensor, "*shape"]:
    """`features` with zeros where `mask`, which may be broadcast, is True."""
    return features.masked_fill(mask, 0.0) if features.requires_grad else features.masked_fill_(mask, 0.0)
