"""A batch norm that no longer learns is a scale and a shift: they go into the convolution before it, and it is gone.

Folding is the arithmetic of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2. Which norm follows which convolution is not guessed from
names: an example passes through the network, and a norm is folded if it alone reads what one plain convolution said.
So any network of timm or torchvision will do, and what cannot be folded (a norm behind a sum, behind a concatenation,
before its convolution, or with statistics of the batch) stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import BatchNormAct2d  # type: ignore[attr-defined]
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops.misc import FrozenBatchNorm2d

from smidgen.nn.frozen_batch_norm import FrozenBatchNorm
from smidgen.nn.norms_behind_convolutions import norms_behind_convolutions
from smidgen.nn.replaced_modules import replace

FROZEN = (FrozenBatchNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d)
BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm2d, BatchNormAct2d, *FROZEN)
"""Exactly these, no subclasses: another forward may do more than scale and shift."""


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: Callable[[], Any]) -> int:
    """Fold what can be folded, in place, and say how many norms that were.

    example: passes an example through `network` (in evaluation mode) and returns the answer. Folded convolutions get
    tensors of their own; the ones they had are not written to.
    """
    norms = [module for module in network.modules() if type(module) in BATCH_NORMS and _is_constant(module)]
    for norm in norms:
        if isinstance(norm, FrozenBatchNorm):
            norm.in_place = False  # a map that is overwritten looks as if others read it
    pairs = norms_behind_convolutions(network, norms, example)
    for norm, convolution in pairs.items():
        fold(convolution, norm)
    replace(network, {norm: rest_of(norm) for norm in pairs})
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


def _is_constant(norm: Any) -> bool:
    return norm.running_mean is not None and (isinstance(norm, FROZEN) or not norm.training)
