"""A batch norm that no longer learns is a scale and a shift: they go into the convolution before it, and it is gone.

Folding is the arithmetic of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2. Which norm follows which convolution is not guessed from
names: an example passes through the network, and a norm is folded if it alone reads what one plain convolution said.
So any network of timm or torchvision will do, and what cannot be folded (a norm behind a sum, behind a concatenation,
before its convolution, or with statistics of the batch) stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from timm.layers import BatchNormAct2d  # type: ignore[attr-defined]
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.ops.misc import FrozenBatchNorm2d

BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm2d, FrozenBatchNorm2d, BatchNormAct2d, FrozenBatchNormAct2d)
"""Exactly these, no subclasses: another forward may do more than scale and shift."""


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: Callable[[], Any]) -> int:
    """Fold what can be folded, in place, and say how many norms that were.

    example: passes an example through `network` (in evaluation mode) and returns the answer. Folded convolutions get
    tensors of their own; the ones they had are not written to.
    """
    pairs = norms_behind_convolutions(network, example)
    for norm, convolution in pairs.items():
        fold(convolution, norm)
    _replace(network, {norm: rest_of(norm) for norm in pairs})
    return len(pairs)


def fold(convolution: nn.Conv2d, norm: Any) -> None:
    """Give the convolution the weight and bias with which it alone computes what both did."""
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def rest_of(norm: nn.Module) -> nn.Module:
    """What stands in a folded norm's place: nothing, or its activation (timm's norms have theirs inside)."""
    return norm.act if isinstance(norm, BatchNormAct2d | FrozenBatchNormAct2d) else nn.Identity()


@torch.no_grad()
def norms_behind_convolutions(network: nn.Module, example: Callable[[], Any]) -> dict[nn.Module, nn.Conv2d]:
    """Each foldable norm and the convolution whose answers it alone reads, as `example` shows."""
    convolutions, norms = _modules(network, (nn.Conv2d,)), _modules(network, BATCH_NORMS)
    seen = _Readers()
    with ExitStack() as hooks, seen:
        for convolution in convolutions:
            hooks.enter_context(convolution.register_forward_hook(seen.convolved))
        for norm in norms:
            hooks.enter_context(norm.register_forward_pre_hook(seen.normed))
        handed_out = {id(leaf) for leaf in tree_leaves(_contents(example()))}
    return {
        norm: seen.answer_of[place]
        for norm, places in seen.read_by.items()
        for place in places
        if _is_constant(norm) and len(places) == 1 and seen.is_private(place) and place not in handed_out
    }


class _Readers(TorchDispatchMode):
    """Which convolution made a tensor, which norms read it, and how many operations did in all."""

    def __init__(self) -> None:
        super().__init__()
        self.answer_of: dict[int, nn.Conv2d] = {}
        self.read_by: dict[nn.Module, list[int]] = {}
        self.operations: Counter[int] = Counter()
        self.calls: Counter[nn.Module] = Counter()
        self.alive: list[Tensor] = []  # or the next tensor may be taken for one of these

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        return operation(*args, **(kwargs or {}))

    def convolved(self, convolution: nn.Conv2d, _: Any, answer: Tensor) -> None:
        self.alive.append(answer)
        self.answer_of[id(answer)], self.operations[id(answer)] = convolution, 0
        self.calls[convolution] += 1

    def normed(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.alive.append(inputs[0])
        self.read_by.setdefault(norm, []).append(id(inputs[0]))

    def is_private(self, place: int) -> bool:
        """Whether a convolution that is called once said this, to one operation."""
        return place in self.answer_of and self.calls[self.answer_of[place]] == 1 and self.operations[place] == 1


def _modules(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[Any]:
    return [module for module in network.modules() if type(module) in kinds]


def _is_constant(norm: Any) -> bool:
    return norm.running_mean is not None and (
        isinstance(norm, FrozenBatchNorm2d | FrozenBatchNormAct2d) or not norm.training
    )


def _contents(answer: Any) -> Any:
    """Tensors of a pyramid are its levels; other answers are lists or tensors."""
    return list(answer.levels) if hasattr(answer, "levels") else answer


def _replace(network: nn.Module, instead: dict[nn.Module, nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child in instead:
                parent.register_module(name, instead[child])
