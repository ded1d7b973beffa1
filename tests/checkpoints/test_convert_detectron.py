"""QueryDet's and RetinaNet's official files: names as the specification lists them, and the same answers after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smidgen.checkpoints import convert, load
from smidgen.checkpoints.conversion import OFFICIAL_LAYOUTS
from smidgen.checkpoints.detectron_layout import CAFFE_PREPROCESSING, QUERY_DET, RETINANET, RETINANET_FROM_P2
from smidgen.checkpoints.renaming import Layout, from_official, to_official
from smidgen.models import create_model
from smidgen.structures import ImageBatch

BACKBONE: dict[str, Any] = {"name": "resnet26", "options": {"channels": [8, 8, 8, 8]}}
FROM_P2 = {"strides": (4, 8, 16, 32)}
CASES = [
    pytest.param("query_det", QUERY_DET, FROM_P2, 6, id="QueryDet"),
    pytest.param("retinanet", RETINANET, {"strides": (8, 16, 32)}, 5, id="RetinaNet"),
    pytest.param("retinanet", RETINANET_FROM_P2, FROM_P2, 6, id="RetinaNet from P2"),
]


def small_model(system: str, strides: dict[str, Any], levels: int, **settings: Any) -> Any:
    """Other than the defaults in every size that shapes can tell; random in every tensor."""
    implied: dict[str, Any] = {"preprocessing": CAFFE_PREPROCESSING, "parity": True}
    backbone = {**BACKBONE, "options": {**BACKBONE["options"], "stride_in_1x1": True}, **strides}
    sizes = {"num_classes": 3, "width": 16, "head_layers": 2, "num_levels": levels}
    model = create_model(f"{system}_r50", backbone=backbone, **(sizes | implied | settings))
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) * 0.1 + 0.01)
    return model


@pytest.mark.parametrize(("system", "layout", "strides", "levels"), CASES)
def test_a_converted_model_has_the_sizes_and_tensors_of_the_file(
    system: str, layout: Layout, strides: dict[str, Any], levels: int, tmp_path: Path
) -> None:
    original = small_model(system, strides, levels)
    torch.save({"model": to_official(layout, original), "iteration": 89999}, tmp_path / "official.pth")
    report = convert(tmp_path / "official.pth", system, tmp_path / "ours", backbone=BACKBONE)
    model = load(tmp_path / "ours")
    assert report.model == model.name == f"{system}_r50" and report.ignored == ()
    assert model.config == original.config
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in original.state_dict().items())


@pytest.mark.parametrize(("system", "layout", "strides", "levels"), CASES)
def test_the_way_there_and_back_changes_nothing_and_only_its_system_recognizes_it(
    system: str, layout: Layout, strides: dict[str, Any], levels: int
) -> None:
    model = small_model(system, strides, levels)
    official = to_official(layout, model)
    assert not set(official) & set(model.state_dict()), "some tensor kept our name"
    back = from_official(layout, model, official)
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
    recognizing = {each for each, known in OFFICIAL_LAYOUTS.items() if any(one.recognizes(official) for one in known)}
    assert recognizing == {system}


def official_names() -> set[str]:
    """The key tree of a released file of QueryDet-R50, written out."""
    norm, both = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"), ("weight", "bias")
    bottom_up = "backbone.bottom_up"
    convolutions = [f"{bottom_up}.stem.conv1"]
    for stage, blocks in zip(range(2, 6), (3, 4, 6, 3), strict=True):
        convolutions += [f"{bottom_up}.res{stage}.{b}.conv{c}" for b in range(blocks) for c in (1, 2, 3)]
        convolutions.append(f"{bottom_up}.res{stage}.0.shortcut")
    biased = [f"backbone.fpn_{kind}{level}" for kind in ("lateral", "output") for level in range(2, 6)]
    biased += ["backbone.top_block.p6", "backbone.top_block.p7", "det_head.cls_score", "det_head.bbox_pred"]
    biased += [f"det_head.{kind}_layer_{layer}" for kind in ("cls", "bbox") for layer in range(4)]
    biased += [f"query_head.layer_{layer}" for layer in range(4)] + ["query_head.pred_net"]
    names = {f"{each}.{part}" for each in convolutions for part in ("weight", *norm)}
    return names | {f"{each}.{part}" for each in biased for part in both}


def test_the_r50_has_the_official_key_tree() -> None:
    with torch.device("meta"):
        model = create_model("query_det_r50", num_classes=80)
    own = model.state_dict()
    renamed = {each for name in own for each in QUERY_DET.official_names(name)}
    assert renamed == official_names()
    assert own["neck.laterals.0.weight"].shape == (256, 256, 1, 1), "lateral2 reads the 256 channels of C2"


@torch.no_grad()
def test_images_become_bgr_minus_the_mean_of_caffe() -> None:
    model = small_model("query_det", FROM_P2, 6)
    pixels = torch.randint(0, 256, (1, 3, 4, 5), dtype=torch.uint8)
    images = ImageBatch(pixels, torch.zeros(1, 4, 5, dtype=torch.bool), ((4, 5),))
    expected = pixels[:, [2, 1, 0]].float() - torch.tensor([103.530, 116.280, 123.675])[:, None, None]
    assert torch.allclose(images.normalized(model.preprocessing).pixels, expected, atol=1e-4)


def converted(official: dict[str, Tensor], tmp_path: Path, system: str = "query_det", **settings: Any) -> Any:
    torch.save({"model": official}, tmp_path / "official.pth")
    report = convert(tmp_path / "official.pth", system, tmp_path / "ours", **{"backbone": BACKBONE, **settings})
    return report, load(tmp_path / "ours")


def test_buffers_without_meaning_are_left_out_and_reported(tmp_path: Path) -> None:
    extra = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "anchor_generator.cell_anchors.0": torch.zeros(9, 4),
        "query_anchor_generator.cell_anchors.0": torch.zeros(1, 4),
        "backbone.bottom_up.stem.conv1.norm.num_batches_tracked": torch.tensor(0),
    }
    report, _ = converted(to_official(QUERY_DET, small_model("query_det", FROM_P2, 6)) | extra, tmp_path)
    assert set(report.ignored) == set(extra)


def test_statistics_that_were_folded_away_are_mean_0_and_variance_1(tmp_path: Path) -> None:
    official = to_official(QUERY_DET, small_model("query_det", FROM_P2, 6))
    official = {name: tensor for name, tensor in official.items() if "running_" not in name}
    _, model = converted(official, tmp_path)
    assert (model.backbone.body.bn1.running_mean == 0).all() and (model.backbone.body.bn1.running_var == 1).all()
    assert torch.equal(model.backbone.body.bn1.weight, official["backbone.bottom_up.stem.conv1.norm.weight"])


@pytest.mark.parametrize(
    "name", ["det_head.cls_layer_4.weight", "backbone.bottom_up.res4.9.conv1.weight", "query_head.layer_2.weight"]
)
def test_weights_of_another_network_are_refused(name: str, tmp_path: Path) -> None:
    official = to_official(QUERY_DET, small_model("query_det", FROM_P2, 6)) | {name: torch.zeros(1)}
    with pytest.raises(ValueError, match="have no place in this model"):
        converted(official, tmp_path)


def test_the_names_of_detectron2s_own_retinanet_are_read(tmp_path: Path) -> None:
    original = small_model("retinanet", {"strides": (8, 16, 32)}, 5)
    official: dict[str, Tensor] = {}
    for name, tensor in to_official(RETINANET, original).items():
        for tower in ("cls", "bbox"):
            for layer in range(2):
                name = name.replace(f"det_head.{tower}_layer_{layer}.", f"head.{tower}_subnet.{2 * layer}.")
        official[name.replace("det_head.", "head.")] = tensor
    assert "head.cls_subnet.2.weight" in official and "head.cls_score.bias" in official
    _, model = converted(official, tmp_path, "retinanet")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in original.state_dict().items())


def test_weights_that_started_from_torchvision_are_said_so(tmp_path: Path) -> None:
    official = to_official(QUERY_DET, small_model("query_det", FROM_P2, 6))
    options = {**BACKBONE["options"], "stride_in_1x1": False}
    _, model = converted(
        official, tmp_path, backbone={**BACKBONE, "options": options}, preprocessing={"channel_order": "rgb"}
    )
    assert model.config.preprocessing == replace(
        small_model("query_det", FROM_P2, 6).config.preprocessing, channel_order="rgb"
    )
    assert model.backbone.body.layer2[0].conv1.stride == (1, 1) and model.backbone.body.layer2[0].conv2.stride == (2, 2)


def test_a_file_of_querydet_is_no_retinanet(tmp_path: Path) -> None:
    official = to_official(QUERY_DET, small_model("query_det", FROM_P2, 6))
    with pytest.raises(ValueError, match=r"checkpoint of retinanet .* looks like query_det"):
        converted(official, tmp_path, "retinanet")
