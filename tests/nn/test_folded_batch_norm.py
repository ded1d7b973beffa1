"""Folded networks answer as before, and what cannot be folded is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn

from smidgen.nn.folded_batch_norm import BATCH_NORMS, fold, fold_batch_norms


def randomized(network: nn.Module) -> nn.Module:
    """Statistics, scales and shifts as after training, in evaluation mode."""
    for module in network.modules():
        if type(module) in BATCH_NORMS:
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            if module.weight is not None:
                module.weight.data.uniform_(-1.5, 1.5)
                module.bias.data.normal_()
    return network.eval()


def norms_in(network: nn.Module) -> int:
    return sum(type(module) in BATCH_NORMS for module in network.modules())


def check_folded(network: nn.Module, image: Tensor, left: int) -> None:
    with torch.no_grad():
        expected = network(image)
        before = norms_in(network)
        assert fold_batch_norms(network, lambda: network(image)) == before - left
        assert norms_in(network) == left
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([1, 3, (3, 7)]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    affine=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_a_folded_convolution_is_the_convolution_and_its_norm(
    groups: int, kernel: Any, stride: int, dilation: int, bias: bool, affine: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    convolution = nn.Conv2d(4, 8, kernel, stride, padding=1, dilation=dilation, groups=groups, bias=bias)
    norm = nn.BatchNorm2d(8, eps=1e-3, affine=affine)
    randomized(norm)
    image = torch.randn(2, 4, 15, 17)
    with torch.no_grad():
        expected = norm(convolution(image))
        fold(convolution, norm)
        torch.testing.assert_close(convolution(image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv2_035", "regnetx_002"])
def test_networks_of_timm_fold_completely(name: str, frozen: bool) -> None:
    network = timm.create_model(name, features_only=True, out_indices=(1, 2))
    network = freeze_batch_norm_2d(network) if frozen else network
    check_folded(randomized(network), torch.randn(1, 3, 64, 64), left=0)


def test_the_activation_inside_a_norm_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4, act_layer=nn.SiLU))
    check_folded(randomized(network), torch.randn(1, 3, 5, 5), left=0)
    assert isinstance(network[1], nn.SiLU)


class Wired(nn.Module):
    """Two convolutions and a norm, connected in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.second = way, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Any:
        said = self.first(image)
        match self.way:
            case "before":
                return self.second(self.norm(image))
            case "read elsewhere, too":
                return self.norm(said) + self.second(said)
            case "handed out":
                return [said, self.norm(said)]
            case "a sum":
                return self.norm(said + self.second(image))
            case "convolved twice":
                return self.norm(said) + self.first(image + 1)
            case "normed twice":
                return self.norm(said) + self.norm(self.second(image))
            case "changed in place":
                return self.norm(said.mul_(2))
        raise AssertionError(self.way)


WAYS = ["before", "read elsewhere, too", "handed out", "a sum", "convolved twice", "normed twice", "changed in place"]


@pytest.mark.parametrize("way", WAYS)
def test_norms_that_others_depend_on_stay(way: str) -> None:
    check_folded(randomized(Wired(way)), torch.randn(1, 4, 3, 3), left=1)


def test_statistics_of_the_batch_stay() -> None:
    image = torch.randn(2, 3, 4, 4)
    check_folded(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), image, left=1)
    learning = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert fold_batch_norms(learning, lambda: learning(image)) == 0


class OtherConvolution(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight.tanh(), self.bias)


def test_convolutions_of_another_kind_keep_their_norms() -> None:
    check_folded(randomized(nn.Sequential(OtherConvolution(3, 4, 1), nn.BatchNorm2d(4))), torch.randn(1, 3, 4, 4), 1)
