"""Strip-MLP has the published sizes, takes any image from 32 px up, and is what timm and a detector expect."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from smidgen.features import strip_mlp
from smidgen.features.strip_mlp import SIZES, StripMLP, StripMLPBackbone
from smidgen.features.timm_backbone import TimmBackbone
from smidgen.nn.overlapping_crops import OverlappingCrops
from smidgen.structures import ImageBatch

# Parameters with and without the head, and 10^9 multiply-adds at 224 px, measured on the official code.
PUBLISHED = {
    "strip_mlp_t_light": (18_243_920, 17_602_920, 2.531),
    "strip_mlp_t": (24_903_920, 24_262_920, 3.665),
    "strip_mlp_s": (42_568_600, 41_799_600, 6.828),
    "strip_mlp_b": (57_216_480, 56_319_480, 9.214),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        network, image = timm.create_model(name).eval(), torch.empty(1, 3, 224, 224)
        backbone = StripMLPBackbone(name)
    parameters, without_head, gmacs = PUBLISHED[name]
    assert num_parameters(network) == parameters
    assert num_parameters(backbone) == without_head
    assert multiply_adds(network, image) / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_maps_and_cost_of_a_detector_s_image() -> None:
    with torch.device("meta"):
        backbone, images = StripMLPBackbone("strip_mlp_t").eval(), batch_of(torch.empty(1, 3, 800, 1333))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pyramid = backbone(images)
    assert pyramid.shapes == ((100, 166), (50, 83), (25, 41))
    assert tuple(level.shape[1] for level in pyramid.levels) == backbone.channels == (160, 320, 640)
    assert counter.get_total_flops() / 2e9 == pytest.approx(78.4, rel=0.01)


class NoCrops(OverlappingCrops):
    """The plain network: strip layers see the map as it is."""

    def split(self, features: Tensor) -> Tensor:
        return features

    def merge(self, crops: Tensor) -> Tensor:
        return crops


@pytest.mark.parametrize("side", [64, 224])
def test_at_the_trained_size_it_is_the_plain_network(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = StripMLP(replace(SIZES["strip_mlp_nano"], trained_px=side), num_classes=5).eval()
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        logits = network(image)
        monkeypatch.setattr(strip_mlp, "OverlappingCrops", NoCrops)
        assert torch.equal(network(image), logits)


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (32, 1000), (100, 75), (64, 64)])
@pytest.mark.parametrize("rounding", ["exact", "half_even"])
def test_any_image_from_32_px_up_is_seen(shape: tuple[int, int], rounding: strip_mlp.Rounding) -> None:
    backbone = StripMLPBackbone("strip_mlp_nano", (4, 8, 16, 32), rounding=rounding).eval()
    network = StripMLP(SIZES["strip_mlp_nano"], num_classes=5, rounding=rounding).eval()
    image = torch.randn(2, 3, *shape)
    with torch.no_grad():
        pyramid, logits = backbone(batch_of(image)), network(image)
    assert pyramid.shapes == tuple((shape[0] // stride, shape[1] // stride) for stride in (4, 8, 16, 32))
    assert all(level.isfinite().all() for level in pyramid.levels)
    assert logits.shape == (2, 5) and logits.isfinite().all()


def test_smaller_images_are_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"at least 32 x 32 pixels.*got 31 x 64"):
        StripMLP(SIZES["strip_mlp_nano"])(torch.zeros(1, 3, 31, 64))


@pytest.mark.parametrize(("images", "side", "answered"), [(1, 32, False), (1, 63, False), (2, 32, True), (1, 64, True)])
def test_batch_norms_that_learn_need_more_than_one_cell(images: int, side: int, answered: bool) -> None:
    network, pixels = StripMLP(SIZES["strip_mlp_nano"]), torch.randn(images, 3, side, side)
    assert network.eval()(pixels).isfinite().all()
    if answered:
        assert network.train()(pixels).isfinite().all()
        return
    with pytest.raises(ValueError, match=rf"at least two cells at stride 32 .*got one image of {side} x {side} pixels"):
        network.train()(pixels)


def test_one_cell_is_enough_where_statistics_stay_or_the_last_stage_is_not_read() -> None:
    image = torch.randn(1, 3, 32, 32)
    for backbone in (StripMLPBackbone("strip_mlp_nano"), StripMLPBackbone("strip_mlp_nano", (8, 16), norm="batch")):
        assert all(level.isfinite().all() for level in backbone.train()(batch_of(image)).levels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_stays_close(dtype: torch.dtype) -> None:
    network, image = StripMLP(SIZES["strip_mlp_nano"]).eval(), torch.randn(2, 3, 96, 160)
    for name, weight in network.named_parameters():
        if ".grn." in name:
            nn.init.normal_(weight)
    with torch.no_grad():
        expected = network(image)
        with torch.autocast("cpu", dtype=dtype):
            found = network(image)
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_timm_makes_a_classifier_and_a_pyramid_that_ends_after_the_final_norm() -> None:
    network = timm.create_model("strip_mlp_nano", num_classes=3, in_chans=3).eval()
    features = timm.create_model("strip_mlp_nano", features_only=True).eval()
    features.model.load_state_dict(network.state_dict(), strict=False)
    assert features.feature_info.channels() == [16, 32, 64, 128]
    assert features.feature_info.reduction() == [4, 8, 16, 32]
    nn.init.normal_(network.norm.weight)
    features.model.norm.load_state_dict(network.norm.state_dict())
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        maps = features(image)
        assert torch.equal(maps[-1], network.norm(list(network.stages(image))[-1]))
        assert torch.equal(network.head(maps[-1].mean(dim=(2, 3))), network(image))


def test_timm_s_data_settings_are_imagenet_s() -> None:
    settings = timm.data.resolve_data_config(model=timm.create_model("strip_mlp_nano"))
    assert settings["mean"] == (0.485, 0.456, 0.406) and settings["std"] == (0.229, 0.224, 0.225)
    assert all(timm.get_pretrained_cfg(name).input_size == (3, 224, 224) for name in PUBLISHED)


def test_any_timm_backbone_s_reader_reads_it() -> None:
    backbone = TimmBackbone("strip_mlp_nano", (8, 16), frozen_stages=1).eval()
    assert backbone(batch_of(torch.randn(1, 3, 64, 80))).shapes == ((8, 10), (4, 5))
    assert not any("blocks4" in name or "head" in name for name, _ in backbone.named_parameters())
    frozen = {name.split(".")[2] for name, weight in backbone.named_parameters() if not weight.requires_grad}
    assert frozen == {"patch_embed", "blocks1"}


def test_stages_behind_the_coarsest_stride_are_not_built() -> None:
    backbone = StripMLPBackbone("strip_mlp_nano", (4, 8)).eval()
    assert backbone(batch_of(torch.randn(1, 3, 64, 64))).strides == backbone.strides == (4, 8)
    assert {name.split(".")[1] for name, _ in backbone.named_parameters()} == {
        "patch_embed",
        "blocks1",
        "merging1",
        "blocks2",
    }


def test_strides_and_sizes_that_do_not_exist_are_errors() -> None:
    with pytest.raises(ValueError, match=r"strides out of \(4, 8, 16, 32\), got \(8, 64\); change model"):
        StripMLPBackbone("strip_mlp_nano", (8, 64))
    with pytest.raises(ValueError, match=r"expected one of strip_mlp_nano, .*got 'strip_mlp_xl'"):
        StripMLPBackbone("strip_mlp_xl")
    with pytest.raises(ValueError, match=r"multiple of 32 .*got 100"):
        replace(SIZES["strip_mlp_nano"], trained_px=100)


def test_batch_mates_change_nothing() -> None:
    backbone, image = StripMLPBackbone("strip_mlp_nano").eval(), torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        alone = backbone(batch_of(image)).levels
        together = backbone(batch_of(torch.cat([torch.randn(1, 3, 96, 160), image]))).levels
    for one, two in zip(alone, together, strict=True):
        torch.testing.assert_close(two[1:], one, atol=1e-5, rtol=0)


def test_running_statistics_stay_while_scale_and_shift_learn() -> None:
    backbone = StripMLPBackbone("strip_mlp_nano").train()
    before = statistics(backbone)
    sum(level.square().sum() for level in backbone(batch_of(torch.randn(2, 3, 64, 64))).levels).backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in statistics(backbone).items())
    assert all(norm.weight.grad is not None for norm in batch_norms(backbone))
    assert backbone.training and backbone.body.blocks1.training, "drop path stays on"


def test_trained_norms_move_their_statistics() -> None:
    backbone = StripMLPBackbone("strip_mlp_nano", norm="batch").train()
    before = statistics(backbone)
    backbone(batch_of(torch.randn(2, 3, 64, 64)))
    assert not any(torch.equal(before[name], buffer) for name, buffer in statistics(backbone).items())


@pytest.mark.parametrize("shape", [(64, 64), (80, 140)])
def test_gradients_reach_all_parameters(shape: tuple[int, int]) -> None:
    network = StripMLP(SIZES["strip_mlp_nano"], num_classes=5, drop_path_rate=0.0).eval()
    nn.functional.cross_entropy(network(torch.randn(2, 3, *shape)), torch.tensor([1, 4])).backward()
    untouched = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert untouched == []


def test_drop_path_is_the_same_in_all_blocks() -> None:
    with torch.device("meta"):
        network = timm.create_model("strip_mlp_t")
    rates = {module.drop_prob for module in network.modules() if isinstance(module, timm.layers.DropPath)}
    assert rates == {0.1}


@pytest.mark.slow
def test_the_plan_is_no_obstacle_to_compilers() -> None:
    network = StripMLP(SIZES["strip_mlp_nano"], num_classes=5).eval()
    image = torch.randn(1, 3, 72, 100)
    with torch.no_grad():
        traced = torch.export.export(network, (image,)).module()
        torch.testing.assert_close(traced(image), network(image))


def batch_of(pixels: Tensor) -> ImageBatch:
    images, _, height, width = pixels.shape
    padding = torch.zeros(images, height, width, dtype=torch.bool, device=pixels.device)
    return ImageBatch(pixels, padding, ((height, width),) * images)


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, image: Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() / 2


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}
