"""Official Strip-MLP files become classifiers that compute the same and that a detector starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.checkpoints import convert, initialize
from smidgen.checkpoints.classification import load_classifier
from smidgen.cli.app import main
from smidgen.features.strip_mlp import SIZES, StripMLP, StripMLPBackbone
from smidgen.models import create_model


@pytest.fixture(scope="module")
def network() -> StripMLP:
    """Random in every tensor."""
    torch.manual_seed(0)
    network = StripMLP(SIZES["strip_mlp_nano"], num_classes=5)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if name.endswith("var") else tensor.normal_(std=0.1)
    return network.eval()


def of_detection(network: nn.Module) -> dict[str, Tensor]:
    """As the authors' detector is stored: no head, another prefix, another spelling, and all the rest beside it."""
    tensors = {
        f"backbone.0.{name.replace('.proj_w.', '.proh_w.')}": tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith("head.")
    }
    return {**tensors, "transformer.encoder.norm.weight": torch.ones(4), "input_proj.0.0.weight": torch.ones(4)}


def written(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "official.pth")
    return folder / "official.pth"


@pytest.mark.parametrize("nested", [True, False])
def test_a_classification_file_gives_the_same_logits(network: StripMLP, tmp_path: Path, nested: bool) -> None:
    tensors = dict(network.state_dict())
    file = written(tmp_path, {"model": tensors, "epoch": 299} if nested else tensors)
    report = convert(file, "strip_mlp_nano", tmp_path / "ours")
    assert (report.model, report.num_classes, report.ignored) == ("strip_mlp_nano", 5, ())
    ours, classifier = load_classifier(tmp_path / "ours")
    assert (classifier.image_size, classifier.options) == (64, {})
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(pixels), network(pixels))


def test_a_detectors_file_gives_its_backbone_and_its_rounding(network: StripMLP, tmp_path: Path) -> None:
    report = convert(written(tmp_path, {"model": of_detection(network)}), "strip_mlp_nano", tmp_path / "ours")
    assert report.num_classes == 0
    assert report.ignored == ("transformer.encoder.norm.weight", "input_proj.0.0.weight")
    ours, classifier = load_classifier(tmp_path / "ours")
    assert classifier.options == {"rounding": "half_even"}
    expected = network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(("rounding", "warned"), [("exact", True), ("half_even", False)])
def test_a_detector_starts_from_it_and_other_crops_are_warned_of(
    network: StripMLP, tmp_path: Path, rounding: str, warned: bool
) -> None:
    convert(written(tmp_path, {"model": of_detection(network)}), "strip_mlp_nano", tmp_path / "ours")
    backbone = {"name": "strip_mlp_nano", "norm": "batch", "options": {"rounding": rounding}}
    detector = create_model("cross_dino_nano", num_classes=3, backbone=backbone)
    report = initialize(detector, tmp_path / "ours")
    assert ("model.backbone.options.rounding=half_even" in str(report)) == warned
    assert "strip_mlp_nano without a head" in str(report)
    assert isinstance(detector.backbone, StripMLPBackbone)
    assert torch.equal(detector.backbone.body.norm.running_var, network.norm.running_var)


def changed(network: nn.Module, **changes: Tensor | None) -> dict[str, Tensor]:
    tensors = {**network.state_dict(), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("system", "changes", "message"),
    [
        ("strip_mlp_t", {}, r"expected strip_mlp_t \(80 channels .*; say --system strip_mlp_nano"),
        ("strip_mlp_nano", {"patch_embed__weight": None}, "expected a checkpoint of Strip-MLP"),
        ("strip_mlp_nano", {"merging2__weight": None}, r"official.pth: expected merging2.weight"),
        ("strip_mlp_nano", {"merging2__weight": torch.ones(2)}, "expected merging2.weight of shape"),
        ("strip_mlp_nano", {"norm__extra": torch.ones(2)}, "norm.extra of the official checkpoint have no place"),
        (
            "strip_mlp_nano",
            {"blocks1__1__weight": torch.ones(2)},
            r"got 16 channels and \(2, 1, 2, 1\) blocks; no size",
        ),
        ("dino", {}, "its names begin with patch_embed"),
        ("strip_mlp", {}, "expected a system with official releases .*strip_mlp_t_light"),
    ],
)
def test_other_files_are_refused(
    network: StripMLP, tmp_path: Path, system: str, changes: dict[str, Tensor | None], message: str
) -> None:
    file = written(tmp_path, changed(network, **changes))
    with pytest.raises(ValueError, match=message):
        convert(file, system, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_settings_that_mean_nothing_are_refused(network: StripMLP, tmp_path: Path) -> None:
    file = written(tmp_path, dict(network.state_dict()))
    with pytest.raises(ValueError, match=r"expected no settings for strip_mlp_nano, .* got num_queries"):
        convert(file, "strip_mlp_nano", tmp_path / "ours", num_queries=3)


def test_on_the_command_line(network: StripMLP, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, {"model": dict(network.state_dict())})
    assert main(["convert", str(file), "--system", "strip_mlp_nano", "--out", str(tmp_path / "ours"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["model"], answer["num_classes"], answer["left_out"]) == ("strip_mlp_nano", 5, [])
