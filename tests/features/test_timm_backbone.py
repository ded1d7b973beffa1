"""Which parameters of timm's networks are frozen, whatever the networks call their stages."""

from __future__ import annotations

import pytest
import torch

from smidgen.features.timm_backbone import Norm, TimmBackbone

FROZEN = {
    ("resnet10t", 1): {"conv1"},
    ("resnet10t", 2): {"conv1", "layer1"},
    ("convnext_atto", 1): {"stem_0", "stem_1", "stages_0"},
    ("convnext_atto", 2): {"stem_0", "stem_1", "stages_0", "stages_1"},
    ("efficientnet_b0", 2): {"conv_stem", "blocks.0", "blocks.1"},
}


@pytest.mark.parametrize(("name", "stages"), FROZEN)
def test_only_the_first_stages_are_frozen(name: str, stages: int) -> None:
    with torch.device("meta"):
        body = TimmBackbone(name, frozen_stages=stages).body
    places = FROZEN[name, stages]
    for parameter_name, parameter in body.named_parameters():
        expected = any(parameter_name.startswith(f"{place}.") for place in places)
        assert parameter.requires_grad != expected, parameter_name


def test_no_stage_is_frozen_where_none_is_asked_for_or_norms_are_trained() -> None:
    with torch.device("meta"):
        for backbone in (TimmBackbone("resnet10t", frozen_stages=0), TimmBackbone("resnet10t", norm="batch")):
            assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_stages_that_cannot_be_found_are_named() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"found no stage1, stem; .*frozen_stages=0"):
        TimmBackbone("hrnet_w18_small", (4, 8, 16), frozen_stages=2)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_groups_are_no_matter_of_other_norms(norm: Norm) -> None:
    """`--set model.backbone.norm=batch` of a size that has group norms."""
    with torch.device("meta"):
        body = TimmBackbone("resnet10t", norm=norm, options={"num_groups": 4}).body
    assert not any(isinstance(module, torch.nn.GroupNorm) for module in body.modules())
