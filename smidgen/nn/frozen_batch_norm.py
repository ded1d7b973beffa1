"""Batch norms as fixed scales and shifts, at inference written into the maps they read where nothing else reads those.

What a frozen norm computes is small; what it costs is memory: torchvision's makes two new maps, and a CPU fetches the
pages of each from the system. Behind a convolution that nothing else listens to, the map may be overwritten: a
ResNet-50's norms then take a tenth of the time. Which norms may is shown by an example, as for folding
(`folded_batch_norm`). Where gradients pass, maps are new: checkpointed stages and backward hooks need the old ones. Who
keeps a convolution's answer by a forward hook under no_grad sees it normalized, as behind timm's activations.

timm's norms with an activation inside (of EfficientNets, RegNets, DenseNets, MobileNets) are timm's as before.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from timm.layers import freeze_batch_norm_2d  # type: ignore[attr-defined]
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from smidgen.nn.norms_behind_convolutions import norms_behind_convolutions
from smidgen.nn.replaced_modules import replace

Network = TypeVar("Network", bound=nn.Module)

EXAMPLE_PX = 64

_LOGGER = logging.getLogger(__name__)


class FrozenBatchNorm(nn.Module):
    """(x - running_mean) / sqrt(running_var + eps) * weight + bias per channel, of fixed tensors, the same sums in the
    same order as torchvision's.

    in_place: overwrite the map that is read, if no gradient passes and it is in the format of the tensors.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: FrozenBatchNorm2d, in_place: bool) -> None:
        super().__init__()
        self.eps, self.in_place = norm.eps, in_place
        for name, tensor in norm.named_buffers():
            self.register_buffer(name, tensor)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The scaled and shifted map."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = (self.bias - self.running_mean * scale)[:, None, None]
        scale = scale[:, None, None]
        if self.in_place and not features.requires_grad and features.dtype == scale.dtype:
            return features.mul_(scale).add_(shift)
        return (features * scale).add_(shift)

    def extra_repr(self) -> str:
        """Channels, eps, and where it writes."""
        return f"{len(self.weight)}, eps={self.eps}, in_place={self.in_place}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # of a norm that was still learning
        super()._load_from_state_dict(state_dict, prefix, *rest)


def freeze_batch_norms(network: Network) -> Network:
    """The network with frozen batch norms; changed in place. A small image shows which may overwrite what they read; if
    the network refuses it, none does.
    """
    network = freeze_batch_norm_2d(network)
    frozen: list[Any] = [module for module in network.modules() if type(module) is FrozenBatchNorm2d]
    overwriting = _alone_behind_convolutions(network, frozen) if frozen else {}
    replace(network, {norm: FrozenBatchNorm(norm, norm in overwriting) for norm in frozen})
    return network


def _alone_behind_convolutions(network: nn.Module, norms: list[Any]) -> dict[nn.Module, nn.Conv2d]:
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    shape = (1, first.in_channels, EXAMPLE_PX, EXAMPLE_PX)
    image = torch.zeros(shape, device=first.weight.device, dtype=first.weight.dtype)
    modes = {module: module.training for module in network.modules()}
    try:
        return norms_behind_convolutions(network.eval(), norms, lambda: network(image))
    except Exception as error:  # networks refuse sizes they are not made for, each in its own way
        _LOGGER.info(
            "frozen norms of %s write nothing in place: it refuses the example (%s)", type(network).__name__, error
        )
        return {}
    finally:
        for module, training in modes.items():
            module.training = training
