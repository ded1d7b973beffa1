from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smidgen.checkpoints import initialize, load
from smidgen.checkpoints.classification import Classifier, create_classifier, load_classifier, save_classifier
from smidgen.features.timm_backbone import TimmBackbone
from smidgen.models import NANO, create_model
from smidgen.structures import ImageBatch, Preprocessing

IMAGENET = Preprocessing()


def classifier(architecture: str = "resnet10t", **settings: Any) -> Classifier:
    given = {
        "class_names": ("cat", "dog"),
        "image_size": 64,
        "mean": IMAGENET.mean,
        "std": IMAGENET.std,
        "norm": "group",
        "options": NANO["backbone"]["options"],
        **settings,
    }
    return Classifier(architecture=architecture, **given)


def saved(folder: Path, described: Classifier) -> nn.Module:
    """A classifier whose every tensor, running statistics too, differs from a fresh one's."""
    network = create_classifier(described)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0) if name.endswith("var") else tensor.normal_(std=0.1)
    save_classifier(network, described, folder, {"top1": 0.5})
    return network.eval()


class Detector(nn.Module):
    """Of a detector, what a classifier can give it, and a head."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head, self.name = backbone, nn.Linear(4, 4), "detector"


def test_nano_detector_sees_what_the_classifier_sees(tmp_path: Path) -> None:
    network: Any = saved(tmp_path, classifier())
    detector = create_model("dino_nano", num_classes=3).eval()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    report = initialize(detector, tmp_path)
    pixels = torch.randn(1, 3, 64, 64)
    images = ImageBatch(pixels, torch.zeros(1, 64, 64, dtype=torch.bool), ((64, 64),))
    assert torch.allclose(detector.backbone(images).levels[-1], network.forward_features(pixels), atol=1e-6)
    rest = {name: tensor for name, tensor in detector.state_dict().items() if not name.startswith("backbone")}
    assert all(torch.equal(tensor, before[name]) for name, tensor in rest.items())
    assert report.fresh == len(rest)
    assert set(report.left_out) == {"fc.weight", "fc.bias"}
    assert "resnet10t trained on 2 classes" in str(report)
    assert "2 left out (head, unread stages): fc." in str(report)


def test_frozen_norms_take_the_running_statistics(tmp_path: Path) -> None:
    options = {"channels": [8, 8, 16, 16], "stem_width": 8}
    network: Any = saved(tmp_path, classifier(norm="batch", options=options))
    detector = Detector(TimmBackbone("resnet10t", norm="frozen", options=options))
    report = initialize(detector, tmp_path)
    assert "layer1.0.bn1.running_var" in report.copied
    pixels = torch.randn(2, 3, 64, 64)
    body = detector.backbone.get_submodule("body").eval()
    assert torch.allclose(body(pixels)[-1], network.forward_features(pixels), atol=1e-5)


def test_flattened_names_are_found(tmp_path: Path) -> None:
    """Where timm reads features it calls ConvNeXt's stages.0 stages_0; stages that are not read stay out."""
    options = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}
    network = saved(tmp_path, classifier("convnext_atto", norm="batch", options=options))
    detector = Detector(TimmBackbone("convnext_atto", (4, 8), norm="batch", options=options))
    report = initialize(detector, tmp_path)
    assert torch.equal(
        detector.backbone.get_submodule("body.stages_0.blocks.0.conv_dw").weight,
        network.get_submodule("stages.0.blocks.0.conv_dw").weight,
    )
    assert {"head.fc.weight", "stages.3.blocks.0.gamma"} <= set(report.left_out)


def test_strip_mlp_gives_its_features(tmp_path: Path) -> None:
    from smidgen.features.strip_mlp import StripMLPBackbone

    network: Any = saved(tmp_path, classifier("strip_mlp_nano", norm="batch", options={}, image_size=224))
    detector = Detector(StripMLPBackbone("strip_mlp_nano"))
    report = initialize(detector, tmp_path)
    assert {name.partition(".")[0] for name in report.left_out} == {"head"}
    theirs, ours = network.state_dict(), detector.backbone.get_submodule("body").state_dict()
    assert ours.keys() == theirs.keys() - {"head.weight", "head.bias"}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items() if "num_batches" not in name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "convnext_atto", "norm": "batch", "options": {}}, "without a counterpart in the classifier"),
        ({"norm": "batch", "options": {"channels": [32, 64, 128, 256], "stem_width": 16}}, "batch norms here"),
        ({"options": {**NANO["backbone"]["options"], "channels": [32, 64, 128, 128]}}, "of another shape"),
    ],
)
def test_other_architectures_are_refused_and_change_nothing(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    saved(tmp_path, classifier(**change))
    detector = create_model("dino_nano", num_classes=3, backbone={**NANO["backbone"], "strides": [8, 16, 32]})
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    with pytest.raises(ValueError, match=rf"expected a classifier with the backbone of dino_nano .*{message}"):
        initialize(detector, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())


def test_another_normalization_is_warned_of(tmp_path: Path) -> None:
    saved(tmp_path, classifier(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    report = initialize(create_model("dino_nano", num_classes=3), tmp_path)
    assert "model.preprocessing.mean" in str(report)


def test_classifier_comes_back_as_it_was(tmp_path: Path) -> None:
    described = classifier()
    network = saved(tmp_path, described)
    again, description = load_classifier(tmp_path)
    pixels = torch.randn(1, 3, 64, 64)
    assert description == described
    assert torch.equal(again(pixels), network(pixels))


def test_classifiers_and_detectors_are_told_apart(tmp_path: Path) -> None:
    saved(tmp_path, classifier())
    with pytest.raises(ValueError, match="not a Smidgen checkpoint"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model": "dino_nano", "config": {}, "classes": {}}))
    with pytest.raises(ValueError, match=r"expected a classifier in .*smidgen.load reads detectors"):
        load_classifier(tmp_path)


def test_unknown_architectures_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a model name of timm, or strip_mlp_t"):
        create_classifier(classifier("resnet_of_nobody"))
    with pytest.raises(
        ValueError, match=r"resnet10t cannot be built with .*paint.*; change model.norm or model.options"
    ):
        create_classifier(classifier(norm="batch", options={"paint": 3}))
    with pytest.raises(ValueError, match=r"strip_mlp_nano cannot be built with norm='group'"):
        create_classifier(classifier("strip_mlp_nano"))
