"""PaQ-DETR against its baselines: what it adds, what it leaves alone, and that ideas of several papers combine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.assignment import HungarianAssignment
from smidgen.assignment.quality_one_to_many import QualityOneToMany
from smidgen.checkpoints import load, save
from smidgen.models import create_criterion, create_model
from smidgen.models.detr import DETR
from smidgen.models.dino_plus import DINOPlusConfig
from smidgen.models.paq_detr import of_baseline
from smidgen.queries.pattern_content import PatternWeights
from smidgen.structures import DetectorOutput, ImageBatch, Target, evidence_of

BASELINES = {
    "paq_deformable_detr": "deformable_detr",
    "paq_dab_deformable_detr": "dab_deformable_detr",
    "paq_dn_deformable_detr": "dn_deformable_detr",
    "paq_dino": "dino_plus",
}
NEITHER: dict[str, Any] = {"patterns": None, "quality": None, "classification": "focal"}
IMAGE = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TARGET = Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0], [30.0, 30.0, 50.0, 60.0]]), torch.tensor([0, 3]), (64, 96))


def _model(name: str, **settings: Any) -> DETR:
    torch.manual_seed(1)
    return create_model(name, num_classes=4, num_queries=20, **settings).eval()


def _same(found: DetectorOutput, expected: DetectorOutput) -> bool:
    return torch.equal(found.final.logits, expected.final.logits) and torch.equal(
        found.final.boxes_cxcywh, expected.final.boxes_cxcywh
    )


@pytest.mark.parametrize(("name", "baseline"), BASELINES.items())
def test_without_its_additions_it_is_the_baseline(name: str, baseline: str) -> None:
    without = _model(f"{name}_nano", **NEITHER)
    settings = {"relation": False} if name == "paq_dino" else {}
    expected = _model(f"{baseline}_nano", **settings)
    assert _same(without(ImageBatch.collate([IMAGE])), expected(ImageBatch.collate([IMAGE])))
    rules = create_criterion(without).assignments
    assert all(isinstance(rule, HungarianAssignment) for rule in rules.values())


@torch.no_grad()
def test_one_pattern_per_query_used_by_it_alone_is_learned_content() -> None:
    """Acceptance (i) of the specification: W = identity and as many patterns as queries."""
    baseline = _model("paq_dino_nano", **NEITHER)
    paq = _model("paq_dino_nano", patterns={"number": 20})
    shared = {name: value for name, value in baseline.state_dict().items() if not name.startswith("encoder.")}
    encoder = {f"encoder.encoder.{name}": value for name, value in baseline.encoder.state_dict().items()}
    paq.load_state_dict(shared | encoder, strict=False)
    mixing = paq.encoder.stages[0]
    mixing.head.A.zero_()
    mixing.head.b.copy_(1e4 * torch.eye(20))
    mixing.patterns.copy_(baseline.content.table.weight)
    assert _same(paq(ImageBatch.collate([IMAGE])), baseline(ImageBatch.collate([IMAGE])))


def test_patterns_add_one_and_three_quarters_of_a_million_parameters_to_dino() -> None:
    with torch.device("meta"):
        paq, without = (create_model("paq_dino_r50", num_classes=91, **options) for options in ({}, {"patterns": None}))
    added = sum(parameter.numel() for parameter in paq.parameters()) - sum(
        parameter.numel() for parameter in without.parameters()
    )
    assert added == 1_751_295 == pytest.approx(1.75e6, rel=0.02)


@torch.no_grad()
def test_evaluation_does_not_depend_on_how_the_network_is_supervised() -> None:
    images = ImageBatch.collate([IMAGE])
    expected = _model("paq_dino_nano")(images)
    for options in ({"quality": None}, {"classification": "focal"}, {"hybrid_queries": 40}):
        other = _model("paq_dino_nano", **options)
        other.load_state_dict(_model("paq_dino_nano").state_dict(), strict=False)
        assert _same(other(images), expected)


def test_earlier_layers_are_one_to_many_and_the_last_one_to_one() -> None:
    model = _model("paq_dino_nano").train()
    criterion = create_criterion(model)
    output = model(ImageBatch.collate([IMAGE]), [TARGET])
    sets = criterion.supervised_sets(output, [TARGET])
    assert isinstance(criterion.assignments["auxiliary"], QualityOneToMany)
    assert isinstance(criterion.assignments["proposals"], HungarianAssignment)
    assert len(sets[""].matches) == len(TARGET) == len(sets["_proposals"].matches)
    assert sets["_0"].matches.query.unique().numel() == len(sets["_0"].matches) >= len(TARGET)


def test_options_of_the_supervision_reach_the_loss() -> None:
    model = _model("paq_dino_nano", quality={"mode": "both", "supervised": "auxiliary_and_proposals"}).train()
    losses = create_criterion(model)(model(ImageBatch.collate([IMAGE]), [TARGET]), [TARGET], 0.0)
    assert {"classification_0", "classification_quality_0", "classification_quality_1", "diversity"} <= set(losses)
    averaged = create_criterion(_model("paq_dino_nano", quality={"normalizer": "positives"}))
    assert averaged.averaged_over_matches == {"auxiliary"}
    copies = create_criterion(_model("paq_dino_nano", quality={"select": "hungarian_copies"}))
    assert copies.assignments["auxiliary"].costs is not None


def test_boxes_of_the_one_to_many_layers_may_weigh_their_overlap() -> None:
    def losses(**quality: Any) -> dict[str, float]:
        model = _model("paq_dino_nano", quality=quality)
        output = model(ImageBatch.collate([IMAGE]))
        return {name: value.item() for name, value in create_criterion(model)(output, [TARGET], 0.0).items()}

    alike, weighted = losses(), losses(box_weight="iou")
    assert 0 <= weighted["giou_0"] < alike["giou_0"] and 0 <= weighted["l1_1"] < alike["l1_1"]
    assert weighted["giou"] == alike["giou"] and weighted["l1_proposals"] == alike["l1_proposals"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patterns": {"number": 0}}, "model.patterns.number"),
        ({"patterns": {"rank": 0}}, "model.patterns.rank"),
        ({"patterns": {"diversity": -1.0}}, "model.patterns.diversity"),
        ({"quality": {"num_candidates": 0}}, "change model.quality"),
        ({"quality": {"select": "hungarian_copies", "union_one_to_one": True}}, "model.quality.select"),
        ({"hybrid_queries": -1}, "model.hybrid_queries"),
    ],
)
def test_settings_that_make_no_model_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("paq_dino_nano", num_classes=4, **settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("paq_deformable_detr_nano", {"patterns": {"source": "pattern_static"}}),
        ("paq_dab_deformable_detr_nano", {"patterns": {"head": "dense", "fusion": "mean"}}),
        ("paq_dn_deformable_detr_nano", {"patterns": {"keep_indicator": True, "extractor_norm": "batch"}}),
        ("paq_dino_nano", {"hybrid_queries": 30, "quality": {"union_one_to_one": True}}),
        ("paq_lsq_detr_nano", {"patterns": None, "quality": None}),
        ("paq_lsq_detr_nano", {"quality": {"box_weight": "iou", "mode": "both"}}),
    ],
)
@torch.no_grad()
def test_a_saved_model_is_the_same_model(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = create_model(name, num_classes=4, **settings).eval()
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert loaded.config == model.config
    assert _same(loaded(ImageBatch.collate([IMAGE])), model(ImageBatch.collate([IMAGE])))


def test_the_branch_of_h_detr_is_trained_and_not_asked_in_evaluation() -> None:
    model = _model("paq_dino_nano", hybrid_queries=40)
    images = ImageBatch.collate([IMAGE])
    assert model(images).one_to_many is None
    output = model.train()(images, [TARGET])
    assert output.one_to_many is not None and output.one_to_many.repeats == 6
    assert output.one_to_many.layers[0].logits.shape[1] == 40
    losses = create_criterion(model)(output, [TARGET], 0.0)
    sum(losses.values()).backward()
    assert model.one_to_many.content.table.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_counted_queries_take_the_first_rows_of_the_mixture() -> None:
    torch.manual_seed(1)
    model = create_model("paq_lsq_detr_nano", num_classes=4).eval()
    output = model(ImageBatch.collate([IMAGE]))
    weights = evidence_of(output.evidence, PatternWeights)
    assert weights is not None and weights.weights.shape[1] == max(model.config.budgets)
    assert output.final.logits.shape[1] in model.config.budgets


def test_a_baseline_configuration_takes_what_it_shares() -> None:
    config = replace(_model("paq_dino_nano").config, num_queries=7)
    assert of_baseline(DINOPlusConfig, config).num_queries == 7


def test_settings_of_the_baseline_are_checked() -> None:
    with pytest.raises(ValueError, match="budget"):
        create_model("paq_lsq_detr_nano", num_classes=4, budgets=[10, 20])
