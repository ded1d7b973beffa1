"""ShuffleNetV2's maps, and what of it is frozen."""

from __future__ import annotations

import pytest
import torch

from smidgen.features.torchvision_backbone import ShuffleNetBackbone
from smidgen.structures import ImageBatch


@torch.no_grad()
def test_maps_are_those_of_querydets_table() -> None:
    """24 channels after the max-pool, 116, 232, and 1024 after the last convolution, at strides 4 to 32."""
    backbone = ShuffleNetBackbone(strides=(4, 8, 16, 32))
    pyramid = backbone(ImageBatch.collate([torch.zeros(3, 64, 96)]))
    assert backbone.channels == (24, 116, 232, 1024)
    assert [level.shape[1] for level in pyramid.levels] == [24, 116, 232, 1024]
    assert pyramid.shapes == ((16, 24), (8, 12), (4, 6), (2, 3))


def test_what_lies_behind_the_coarsest_map_is_not_built() -> None:
    with torch.device("meta"):
        parts = [name for name, _ in ShuffleNetBackbone(strides=(8, 16)).body.named_children()]
    assert parts == ["conv1", "maxpool", "stage2", "stage3"]


def test_stem_and_first_stage_are_frozen_unless_norms_are_trained() -> None:
    with torch.device("meta"):
        frozen, trained = ShuffleNetBackbone(), ShuffleNetBackbone(norm="batch")
    learning = {name.split(".")[0] for name, each in frozen.body.named_parameters() if each.requires_grad}
    assert learning == {"stage3", "stage4", "conv5"}
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in frozen.modules())
    assert all(parameter.requires_grad for parameter in trained.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "shufflenet_v3"}, "expected one of .*model.backbone.name"),
        ({"strides": (4, 64)}, "expected strides out of .*model.backbone.strides"),
    ],
)
def test_mistakes_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShuffleNetBackbone(**settings)
