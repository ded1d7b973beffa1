"""Caffe's ResNet halves a map in the first 1x1 convolution of a stage, later ones in its 3x3: the stride is moved.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (the authors' Caffe models; detectron2 calls it
STRIDE_IN_1X1). The released QueryDet starts from such weights. timm builds the later form ("ResNet v1.5") and has no
option for the first; the tensors of both are the same, so that only the strides tell them apart.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def stride_in_first_convolution(network: Network) -> Network:
    """The network with the stride of every bottleneck (1x1, 3x3, 1x1) in its first convolution; changed in place.

    Errors: ValueError where no bottleneck has a stride, so that the option would silently do nothing.
    """
    strided = [block for block in network.modules() if _has_strided_3x3(block)]
    if not strided:
        raise ValueError(
            "expected bottlenecks with a stride in their 3x3 convolution to move it to the first 1x1, found none in "
            f"{type(network).__name__}; remove stride_in_1x1 from model.backbone.options"
        )
    for block in strided:
        first, second = block.get_submodule("conv1"), block.get_submodule("conv2")
        assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
        first.stride, second.stride = second.stride, first.stride
    return network


def _has_strided_3x3(block: nn.Module) -> bool:
    first, second = getattr(block, "conv1", None), getattr(block, "conv2", None)
    if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d) and hasattr(block, "conv3")):
        return False
    return first.kernel_size == (1, 1) and first.stride == (1, 1) and second.stride != (1, 1)
