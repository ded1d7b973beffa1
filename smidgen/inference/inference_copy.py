"""A copy of a detector with fewer operations that say the same, in a memory layout that convolutions like.

Batch norms go into convolutions (nn/folded_batch_norm for the backbone, Salience DETR's fusion and the towers of dense
heads for themselves; group and layer norms depend on the image and stay). Convolution weights are stored channels last
in stages without group norms: a CPU's convolutions then write maps channels last, whose cells are rows already, so that
tokens and gathered cells are made of them without copying back. What is not rewritten shares its memory with the
original.

torch's group norm of channels-last maps loses digits over even ground, where the mean is large and the deviation small:
levels of a trained nano model were off by 3e-3, and other queries were chosen. Group norms therefore get their maps
channels first, as in the original; maxima, which are the same in any layout, are looked for channels last.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.nn.convolution_tower import ConvolutionTower
from smidgen.nn.folded_batch_norm import BATCH_NORMS, fold_batch_norms
from smidgen.structures import ImageBatch
from smidgen.tokens.cross_level_fusion import fuse

EXAMPLE_PX = 64


def inference_copy(detector: nn.Module) -> Any:
    """The rewritten copy; `detector` must be in evaluation mode and is not changed. No parameter asks for gradients."""
    copy = _sharing_copy(detector)
    fuse(copy)
    _fold_towers(copy)
    _fold_backbone(copy)
    for stage in copy.children():
        if _group_norms(stage):
            _pool_channels_last(stage)
        else:
            _store_channels_last(stage)
    for norm in _group_norms(copy):
        norm.register_forward_pre_hook(_channels_first)
    return copy


def convert_convolutions(stages: nn.Module, dtype: torch.dtype) -> None:
    """Weights of `stages` in `dtype`, which saves converting them for every image."""
    for convolution in _convolutions(stages):
        convolution.to(dtype)


def _sharing_copy(detector: nn.Module) -> nn.Module:
    """Modules of its own with tensors of its own over the same memory: moving the copy to a GPU leaves the original."""
    tensors = chain(detector.parameters(), detector.buffers())
    return deepcopy(detector, {id(tensor): _same_memory(tensor) for tensor in tensors})


def _same_memory(tensor: Tensor) -> Tensor:
    shared = tensor.detach()
    return nn.Parameter(shared, requires_grad=False) if isinstance(tensor, nn.Parameter) else shared


def _fold_towers(detector: nn.Module) -> None:
    for tower in detector.modules():
        if isinstance(tower, ConvolutionTower) and len(tower.norms):
            for convolution, kernel in zip(tower.convolutions, tower.kernels(), strict=True):
                convolution.weight, convolution.bias = _fixed(kernel.weight), _fixed(kernel.bias)
            tower.norms = nn.ModuleList()


def _fold_backbone(detector: Any) -> None:
    backbone = detector.backbone
    if any(type(module) in BATCH_NORMS for module in backbone.modules()):
        side = -(-EXAMPLE_PX // detector.preprocessing.pad_multiple) * detector.preprocessing.pad_multiple
        like = next(backbone.parameters())
        example = ImageBatch.collate([torch.rand(3, side, side, device=like.device, dtype=like.dtype)])
        fold_batch_norms(backbone, lambda: backbone(example))


def _store_channels_last(stage: nn.Module) -> None:
    for convolution in _convolutions(stage):
        convolution.weight = _fixed(convolution.weight.contiguous(memory_format=torch.channels_last))


def _pool_channels_last(stage: nn.Module) -> None:
    """A CPU looks for maxima 1.3 to 6 times as fast in channels-last maps, copying there and back included."""
    for pool in (module for module in stage.modules() if isinstance(module, nn.MaxPool2d)):
        pool.register_forward_pre_hook(_channels_last)
        pool.register_forward_hook(_as_before)


def _channels_last(pool: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    if inputs[0].device.type != "cpu":
        return None
    return tuple(values.contiguous(memory_format=torch.channels_last) for values in inputs)


def _as_before(pool: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> Tensor:
    return answer.contiguous()


def _channels_first(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(values.contiguous() for values in inputs)


def _group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    return [module for module in network.modules() if isinstance(module, nn.GroupNorm)]


def _convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=False)
