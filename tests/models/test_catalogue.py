"""Names, sizes, configuration and parts from outside."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import timm
import torch
from torch import nn

import smidgen
from smidgen.models import CATALOGUE, PARTS, Entry, configure, create_criterion, create_model, trainable_from_scratch
from smidgen.queries.topk import TopK
from smidgen.structures import Classes, ImageBatch

PARAMETERS = {
    "dino_r50": (46_893_182, 46_670_782),
    "dino_5scale_r50": (47_255_806, 47_033_406),
    "dino_plus_r50": (47_672_417, 47_450_017),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_official_parameter_counts_with_91_classes(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=91)
    counts = [parameter.numel() for parameter in model.parameters()]
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    assert (sum(counts), sum(trained)) == PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name.endswith("_nano")])
def test_nano_sizes_have_a_few_million_parameters_and_none_is_frozen(name: str) -> None:
    model = create_model(name, num_classes=3)
    assert sum(parameter.numel() for parameter in model.parameters()) < 5_000_000
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_training_from_scratch_has_no_frozen_norms() -> None:
    config = trainable_from_scratch(configure("dino_r50", {"num_classes": 2}))
    assert config.backbone.norm == "batch"
    with torch.device("meta"):
        model = create_model("dino_r50", config=config)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("dino_nanno", {}, "did you mean .*dino_nano"),
        ("dino_nano", {"num_querys": 3}, "model.num_querys is not a field .* did you mean model.num_queries"),
        ("dino_nano", {"transformer": {"widht": 3}}, "did you mean model.transformer.width"),
        ("dino_nano", {"num_queries": "many"}, "model.num_queries: .*valid integer.*'many'"),
        ("dino_nano", {"backbone": {"name": "resnet5O"}}, "expected a model name of timm, got 'resnet5O'"),
        ("dino_nano", {"backbone": {"strides": (7,)}}, "expected strides out of"),
        ("dino_nano", {"parts": {"selektion": "mine"}}, "expected a stage out of .*selection.* got 'selektion'"),
        ("dino_nano", {"parts": {"selection": "nobody's"}}, "expected a registered selection part"),
    ],
)
def test_mistakes_are_named(name: str, overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(name, num_classes=2, **overrides)


def _contradictions() -> dict[str, tuple[str, dict]]:
    finished, classes = configure("dino_nano", {"num_classes": 2}), Classes(("car", "boat"), (3, 7))
    return {
        "expected num_classes to be the number of classes, 2, got 3": (
            "dino_nano",
            {"num_classes": 3, "classes": classes},
        ),
        "num_classes or classes to build a model, got neither": ("dino_nano", {}),
        "at least one class .* num_classes=0": ("dino_nano", {"num_classes": 0}),
        "at least one class .* num_classes=-1": ("dino_nano", {"num_classes": -1}),
        "got both .config and num_queries": ("dino_nano", {"config": finished, "num_queries": 7}),
        "expected 2 classes as in the configuration, got 3": ("dino_nano", {"config": finished, "num_classes": 3}),
        "expected a DABDeformableDETRConfig .* got a DINOConfig": ("dab_deformable_detr_nano", {"config": finished}),
    }


@pytest.mark.parametrize("message", _contradictions())
def test_contradictions_are_refused(message: str) -> None:
    name, arguments = _contradictions()[message]
    with pytest.raises(ValueError, match=message):
        create_model(name, **arguments)


def test_a_decoder_without_layers_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"at least one decoder layer, got 0; change model\.transformer\.decoder_layers"
    ):
        create_model("dino_nano", num_classes=2, transformer={"decoder_layers": 0})


def test_a_part_from_outside_works_where_one_of_ours_does(monkeypatch: pytest.MonkeyPatch) -> None:
    class WorstFirst(nn.Module):
        """Selects like TopK, and shows the decoder the worst first."""

        def __init__(self) -> None:
            super().__init__()
            self.topk = TopK()
            self.asked = 0

        def forward(self, memory, proposals, budget):  # type: ignore[no-untyped-def]
            self.asked += 1
            return self.topk(memory, proposals, budget)

    monkeypatch.setitem(PARTS, ("selection", "worst_first"), lambda config: WorstFirst())
    model = create_model("dino_nano", num_classes=2, parts={"selection": "worst_first"})
    model.eval()(ImageBatch.collate([torch.zeros(3, 64, 64)]))
    assert isinstance(model.selection, WorstFirst)
    assert model.selection.asked == 1
    assert model.config.parts == {"selection": "worst_first"}


def test_a_registered_system_is_built_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CATALOGUE["dino_nano"]
    monkeypatch.setitem(CATALOGUE, "mine_nano", Entry(entry.config, entry.model, entry.criterion, entry.settings))
    model = smidgen.create_model("mine_nano", num_classes=2)
    assert model.name == "mine_nano"
    assert create_criterion(model) is not None
    with pytest.raises(ValueError, match="already holds"):
        smidgen.register_model("mine_nano", entry)


def test_one_field_of_a_nested_configuration_leaves_the_other_defaults() -> None:
    config = configure("deformable_detr_one_stage_r50", {"num_classes": 2, "transformer": {"width": 128}})
    assert (config.transformer.width, config.transformer.feed_forward, config.transformer.dropout) == (128, 1024, 0.1)
    assert configure("dino_nano", {"num_classes": 2, "loss": {"l1": 5.5}}).loss.giou == 2.0


def test_a_table_replaces_the_presets_and_survives_a_second_configuration() -> None:
    """A model that was trained with one row of quotas must not have four after it was loaded."""
    config = configure("lsq_detr_nano", {"num_classes": 1, "quotas": {200: [0.2, 0.3, 0.5]}})
    assert config.quotas == {200: (0.2, 0.3, 0.5)}
    assert configure("lsq_detr_nano", asdict(config)) == config
    options = {"channels": [16, 32, 64, 128]}
    assert configure("dino_nano", {"num_classes": 1, "backbone": {"options": options}}).backbone.options == options


def test_naming_another_backbone_drops_the_presets_norm_and_options() -> None:
    backbone = configure("dino_nano", {"num_classes": 1, "backbone": {"name": "convnext_atto"}}).backbone
    assert (backbone.name, backbone.options, backbone.strides) == ("convnext_atto", {}, (8, 16, 32))


def test_sizes_name_the_weights_of_their_papers() -> None:
    names = {size: configure(f"salience_detr_{size}", {"num_classes": 1}).backbone.name for size in ("r50", "swin_l")}
    assert names == {"r50": "resnet50.tv2_in1k", "swin_l": "swin_large_patch4_window7_224.ms_in22k"}
    assert all(timm.is_model_pretrained(name) for name in names.values())
