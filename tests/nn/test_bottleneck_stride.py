"""The stride stands in the first 1x1 convolution, and the block computes what Caffe's does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smidgen.features.timm_backbone import TimmBackbone
from smidgen.nn.bottleneck_stride import stride_in_first_convolution
from smidgen.structures import ImageBatch


def body(**options: object) -> nn.Module:
    settings = {"channels": [4, 4, 4, 4], **options}
    backbone = TimmBackbone("resnet26", (4, 8, 16, 32), norm="frozen", options=settings)
    torch.manual_seed(0)
    for tensor in backbone.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 0.1 if tensor.ndim == 1 else torch.randn(tensor.shape) * 0.3)
    return backbone


def caffe_bottleneck(features: Tensor, weights: dict[str, Tensor], stride: int) -> Tensor:
    """He et al. 2016 as Caffe has it: 1x1 with the stride, 3x3, 1x1, and a projection with the stride."""

    def norm(maps: Tensor, name: str) -> Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        scale = weights[f"{name}.weight"] / (variance + 1e-5).sqrt()
        return maps * scale[:, None, None] + (weights[f"{name}.bias"] - mean * scale)[:, None, None]

    first = norm(F.conv2d(features, weights["conv1.weight"], stride=stride), "bn1").relu()
    second = norm(F.conv2d(first, weights["conv2.weight"], padding=1), "bn2").relu()
    third = norm(F.conv2d(second, weights["conv3.weight"]), "bn3")
    shortcut = norm(F.conv2d(features, weights["downsample.0.weight"], stride=stride), "downsample.1")
    return (third + shortcut).relu()


@torch.no_grad()
@pytest.mark.parametrize("shape", [(8, 12), (7, 9)])
def test_a_strided_bottleneck_equals_one_written_by_hand(shape: tuple[int, int]) -> None:
    block = body(stride_in_1x1=True).double().get_submodule("body.layer2.0")
    features = torch.randn(2, 16, *shape, dtype=torch.float64)
    expected = caffe_bottleneck(features, dict(block.state_dict()), stride=2)
    assert torch.allclose(block(features), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_two_forms_share_their_tensors_and_differ_in_what_they_compute() -> None:
    caffe, later = body(stride_in_1x1=True), body()
    later.load_state_dict(caffe.state_dict())
    images = ImageBatch(torch.randn(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool), ((64, 96),))
    ours, others = caffe(images).levels, later(images).levels
    assert [level.shape for level in ours] == [level.shape for level in others]
    assert torch.equal(ours[0], others[0]), "the first stage has no stride to move"
    assert not torch.allclose(ours[1], others[1], rtol=1e-2)


def test_networks_without_such_bottlenecks_are_refused() -> None:
    with pytest.raises(ValueError, match="remove stride_in_1x1"):
        stride_in_first_convolution(nn.Sequential(nn.Conv2d(3, 3, 3, 2)))
