"""Frozen norms say what torchvision's say, bit for bit, and overwrite only what nobody else reads."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
from timm.layers import freeze_batch_norm_2d  # type: ignore[attr-defined]
from torch import Tensor, nn

from smidgen.features.timm_backbone import TimmBackbone
from smidgen.nn.folded_batch_norm import BATCH_NORMS, fold_batch_norms
from smidgen.nn.frozen_batch_norm import FrozenBatchNorm, freeze_batch_norms
from smidgen.structures import ImageBatch


def randomized(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            module.weight.data.uniform_(-1.5, 1.5)
            module.bias.data.normal_()
    return network


def norms_of(network: nn.Module) -> list[FrozenBatchNorm]:
    return [module for module in network.modules() if isinstance(module, FrozenBatchNorm)]


class Wired(nn.Module):
    """A convolution and a norm, connected in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.convolution, self.norm = way, nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Any:
        said = self.convolution(image)
        match self.way:
            case "alone":
                return self.norm(said).relu_()
            case "read elsewhere, too":
                return self.norm(said) + said
            case "handed out":
                return [said, self.norm(said)]
            case "a view is read":
                return self.norm(said).sum() + said[:, :1].sum()
        raise AssertionError(self.way)


WAYS = ["alone", "read elsewhere, too", "handed out", "a view is read"]


@pytest.mark.parametrize("way", WAYS)
def test_a_map_is_overwritten_only_where_the_norm_alone_reads_it(way: str) -> None:
    network, image = randomized(Wired(way)), torch.randn(2, 3, 5, 5)
    expected = freeze_batch_norm_2d(deepcopy(network))(image)
    frozen = freeze_batch_norms(network)
    torch.testing.assert_close(frozen(image), expected, rtol=0, atol=0)
    assert [norm.in_place for norm in norms_of(frozen)] == [way == "alone"]


@pytest.mark.parametrize("name", ["resnet10t", "resnet14t", "ghostnet_050", "repvit_m0_9"])
def test_networks_answer_and_learn_as_with_torchvisions(name: str) -> None:
    network = randomized(timm.create_model(name, features_only=True, out_indices=(1, 2)))
    peer, ours = freeze_batch_norm_2d(deepcopy(network)), freeze_batch_norms(network)
    assert any(norm.in_place for norm in norms_of(ours))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), peer(image), rtol=0, atol=0)
    answers = [each(image) for each in (peer, ours)]
    torch.testing.assert_close(answers[1], answers[0], rtol=0, atol=0)
    for answer in answers:
        torch.stack([level.square().mean() for level in answer]).sum().backward()
    gradients = [{name: parameter.grad for name, parameter in each.named_parameters()} for each in (peer, ours)]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_every_norm_of_a_residual_network_overwrites() -> None:
    backbone = TimmBackbone("resnet14t", norm="frozen")
    assert norms_of(backbone) and all(norm.in_place for norm in norms_of(backbone))
    assert backbone.training and backbone.body.training


def test_a_norm_before_its_convolution_does_not() -> None:
    network = freeze_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)))
    assert [norm.in_place for norm in norms_of(network)] == [False]


@pytest.mark.parametrize("options", [{"in_chans": 1}, {"dtype": torch.bfloat16}])
def test_the_example_is_of_the_kind_that_a_network_reads(options: dict[str, Any]) -> None:
    network = timm.create_model("resnet10t", features_only=True, in_chans=options.pop("in_chans", 3)).to(**options)
    assert all(norm.in_place for norm in norms_of(freeze_batch_norms(network)))


class OfOneSize(nn.Module):
    """A network that refuses images of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[2:] != (24, 24):
            raise ValueError("expected 24 px")
        return self.stage(image)


def test_a_network_that_refuses_the_example_is_frozen_all_the_same() -> None:
    network = OfOneSize()
    frozen = freeze_batch_norms(network)
    assert [norm.in_place for norm in norms_of(frozen)] == [False]
    assert frozen.training and not frozen.stage.training  # as they were
    frozen(torch.randn(1, 3, 24, 24))


def test_checkpointed_stages_and_backward_hooks_learn() -> None:
    expected = TimmBackbone("resnet10t", (8, 16), norm="frozen", frozen_stages=0)
    found = deepcopy(expected)
    found.body.set_grad_checkpointing(True)
    convolution = next(module for module in found.modules() if isinstance(module, nn.Conv2d))
    convolution.register_full_backward_hook(lambda *_: None)
    images = ImageBatch.collate([torch.randn(3, 64, 64)])
    for backbone in (expected, found):
        torch.stack([level.square().mean() for level in backbone(images).levels]).sum().backward()
    for (name, one), other in zip(expected.named_parameters(), found.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)


def test_building_takes_no_random_numbers() -> None:
    network = timm.create_model("resnet10t", features_only=True, drop_rate=0.5, drop_path_rate=0.5)
    before = torch.get_rng_state()
    freeze_batch_norms(network)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_go_both_ways() -> None:
    """Names are those of timm's frozen norms; a count of batches, which learning norms have, is dropped."""
    learning = randomized(timm.create_model("resnet10t", features_only=True))
    expected = freeze_batch_norm_2d(deepcopy(learning))
    ours = freeze_batch_norms(timm.create_model("resnet10t", features_only=True))
    assert list(ours.state_dict()) == list(expected.state_dict())
    ours.load_state_dict(learning.state_dict())
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(ours(image), expected(image), rtol=0, atol=0)


def test_norms_that_overwrite_fold() -> None:
    network = freeze_batch_norms(randomized(timm.create_model("resnet10t", features_only=True))).eval()
    image, before = torch.randn(1, 3, 64, 64), len(norms_of(network))
    with torch.no_grad():
        expected = network(image)
        assert fold_batch_norms(network, lambda: network(image)) == before
        assert not any(type(module) in BATCH_NORMS for module in network.modules())
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


def test_mixed_formats_come_out_as_torchvisions() -> None:
    network = randomized(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    peer, ours = freeze_batch_norm_2d(deepcopy(network)), freeze_batch_norms(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = (each(torch.ones(1, 3, 2, 2)) for each in (peer, ours))
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
