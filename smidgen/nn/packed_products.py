"""Linear layers and 1x1 convolutions with weights laid out once for oneDNN, which is part of torch.

torch gives products in float32 to MKL, and 1x1 convolutions of single images with them. On an AMD processor (Zen 4) MKL
reached 65 to 80 GFLOP/s at a detector's sizes, and oneDNN with weights in its own layout 98 to 110. torch's compiler
uses the same two operations; eager code has no public name for them. So they are tried before they are used, and where
they are missing, or answer something else, layers stay as they are.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry, register_flop_formula

from smidgen.nn.replaced_modules import replace

_LOGGER = logging.getLogger(__name__)


class PackedLinear(nn.Module):
    """An nn.Linear for inference.

    weight: in oneDNN's layout, which only oneDNN reads, while it is on a CPU in float32; `dense_weight` is in torch's.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, weight: Float[Tensor, "c_out c_in"], bias: Float[Tensor, " c_out"] | None) -> None:
        super().__init__()
        self.training = False
        self.out_features, self.in_features = weight.shape
        self.weight = _fixed(_packed(weight))
        self.bias = None if bias is None else _fixed(bias)

    def forward(self, features: Float[Tensor, "*shape c_in"]) -> Float[Tensor, "*shape c_out"]:
        """The products, plus the bias. What the fast operation cannot do (gradients to the features, autocast, other
        formats) torch does, after unpacking the weights.
        """
        if _is_fast_case(features, self.weight):
            return _product(features, self.weight, self.bias)
        return F.linear(features, self.dense_weight(), self.bias)

    def dense_weight(self) -> Float[Tensor, "c_out c_in"]:
        """The weights in torch's layout: a copy, if they are packed."""
        return self.weight.to_dense() if self.weight.is_mkldnn else self.weight

    def __reduce__(self) -> tuple[type[PackedLinear], tuple[Tensor, Tensor | None]]:
        """Copied and pickled by the weights in torch's layout: tensors in another cannot be."""
        return PackedLinear, (self.dense_weight(), self.bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        weight = fn(self.dense_weight())
        self.weight = _fixed(_packed(weight) if _is_plain(weight) else weight)
        self.bias = None if self.bias is None else _fixed(fn(self.bias))
        return self

    def extra_repr(self) -> str:
        """Widths."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class PackedPointwise(nn.Module):
    """A 1x1 convolution of stride 1: a linear layer on the cells of a map. Answers lie channels last."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.training = False
        self.linear = PackedLinear(convolution.weight.flatten(1), convolution.bias)

    def forward(self, features: Float[Tensor, "B c_in H W"]) -> Float[Tensor, "B c_out H W"]:
        """The map of products."""
        answer: Tensor = self.linear(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return answer


def pack_products(network: nn.Module) -> None:
    """Exchange each nn.Linear and each 1x1 nn.Conv2d of `network` (no subclasses) for packed ones, in place, where that
    is possible: on a CPU, in float32.
    """
    if packing_works():
        plain = [module for module in network.modules() if type(module) in (nn.Linear, nn.Conv2d)]
        packed = {module: _packed_layer(module) for module in plain}
        replace(network, {module: layer for module, layer in packed.items() if layer is not None})


@functools.cache
def packing_works() -> bool:
    """Whether this build of torch has the operations for this processor, and they multiply; else it is logged why."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        with torch.autocast("cpu", enabled=False):
            apart = _apart()
    except (AttributeError, RuntimeError, NotImplementedError, TypeError) as error:
        _LOGGER.info("linear layers stay as they are: torch %s has no packed ones (%s)", torch.__version__, error)
        return False
    if apart > 1e-4:
        _LOGGER.warning("linear layers stay as they are: packed ones differed by %.2g", apart)
        return False
    if torch.ops.mkldnn._linear_pointwise not in flop_registry:
        register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)
    return True


def _apart() -> float:
    """How far a small product is off. Nothing of it is random, or left to what the caller has made torch's default."""
    numbers = (torch.linspace(-1, 1, count, dtype=torch.float32, device="cpu") for count in (3 * 16, 8 * 16, 8))
    features, weight, bias = next(numbers).view(3, 16), next(numbers).view(8, 16), next(numbers)
    return (_product(features, _packed(weight), bias) - F.linear(features, weight, bias)).abs().max().item()


def _is_fast_case(features: Tensor, weight: Tensor) -> bool:
    with_gradients = features.requires_grad and torch.is_grad_enabled()
    same_format = weight.is_mkldnn and features.dtype == weight.dtype and features.device == weight.device
    return same_format and not with_gradients and not torch.is_autocast_enabled("cpu")


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=False)


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    return packed


def _product(features: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(features, packed, bias, "none", [], "")
    return product


def _flops(features: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * features.numel() * weight[0]


def _packed_layer(module: nn.Module) -> nn.Module | None:
    if not isinstance(module, nn.Linear | nn.Conv2d) or not _is_plain(module.weight):
        return None
    if isinstance(module, nn.Linear):
        return PackedLinear(module.weight, module.bias)
    form = (module.kernel_size, module.stride, module.padding, module.groups)
    return PackedPointwise(module) if form == ((1, 1), (1, 1), (0, 0), 1) else None


def _is_plain(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
