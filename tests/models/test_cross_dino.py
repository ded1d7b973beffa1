"""Cross-DINO as a whole: published sizes, every option, batch mates, canvases and where Boost loss acts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from smidgen.losses import CategorySizeClassification, FocalClassification
from smidgen.models import NANO
from smidgen.models.config import BackboneConfig, TransformerConfig
from smidgen.models.cross_dino import CrossDINOConfig, cross_dino, cross_dino_criterion
from smidgen.models.detr import DETR
from smidgen.recipes.named import run_recipe
from smidgen.structures import DetectorOutput, FeaturePyramid, ImageBatch, Memory, Target, evidence_of
from smidgen.tokens.cross_coding import CrossGates

SWIN_T = BackboneConfig(name="swin_tiny_patch4_window7_224", frozen_stages=1, options={"strict_img_size": False})
STRIP_T = BackboneConfig(name="strip_mlp_t")


def _config(**settings: object) -> CrossDINOConfig:
    """Nano sizes, with few queries so that what is selected matters."""
    nano = CrossDINOConfig(
        num_classes=4,
        num_levels=3,
        num_queries=20,
        backbone=BackboneConfig(**NANO["backbone"]),
        transformer=TransformerConfig(**NANO["transformer"]),
    )
    return dataclasses.replace(nano, **settings)


def _model(**settings: object) -> DETR:
    torch.manual_seed(1)
    return cross_dino(_config(**settings)).eval()


def _image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _targets(*sizes: tuple[int, int]) -> list[Target]:
    return [Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0]]), torch.tensor([1]), size) for size in sizes]


def _losses(model: DETR, config: CrossDINOConfig, size: tuple[int, int] = (64, 96)) -> dict[str, torch.Tensor]:
    targets = _targets(size)
    output = model.train()(ImageBatch.collate([_image(*size)], pad_multiple=32), targets)
    return cross_dino_criterion(config)(output, targets, 0.0)


@pytest.mark.parametrize(
    ("settings", "backbone", "detector", "dino"),
    [
        ({}, 23_454_912, 47_552_638, 46_893_182),
        ({"backbone": SWIN_T, "output_norms": True}, 27_520_506, 48_095_672, 47_436_216),
        ({"backbone": STRIP_T}, 24_262_920, 44_485_830, 43_826_374),
    ],
    ids=["r50", "swin_t", "strip_t"],
)
def test_published_parameter_counts(settings: dict[str, object], backbone: int, detector: int, dino: int) -> None:
    """The paper's 48M, 49M and 45M are these, rounded up, and so are DINO's 47M, 48M and 44M without cross coding."""
    config = CrossDINOConfig(num_classes=91, **settings)
    with torch.device("meta"):
        model, plain = cross_dino(config), cross_dino(dataclasses.replace(config, coding="none"))
    assert [_size(part) for part in (model.backbone, model, plain)] == [backbone, detector, dino]
    assert detector - dino == 659_456


def _size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


OPTIONS = [
    {},
    {"coding": "once"},
    {"coding": "mlp_only"},
    {"coding": "none"},
    {"gate": "joint", "response_norm": "between"},
    {"gate": "product_of_logits", "norm_per_level": True},
    {"two_stage_source": "cross", "beta": 0.05},
    {"gt_size_weight": False, "positive_renorm": True, "detach_modulator": True},
    {"output_norms": True},
    {"parity": True},
]


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_every_option_trains(settings: dict[str, object]) -> None:
    model = _model(**settings)
    losses = _losses(model, _config(**settings))
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def _close(found: DetectorOutput, expected: DetectorOutput) -> None:
    torch.testing.assert_close(found.final.logits[:1], expected.final.logits[:1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.final.boxes_cxcywh[:1], expected.final.boxes_cxcywh[:1], atol=1e-5, rtol=0)


def _trained(model: DETR) -> DETR:
    """Response norms that are no longer the identity, so that what they read matters."""
    for name, parameter in model.named_parameters():
        if name.endswith(("response_norm.gamma", "response_norm.beta")):
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("settings", [{}, {"gate": "joint", "norm_per_level": True}], ids=str)
@torch.no_grad()
def test_batch_mates_change_nothing_on_the_same_canvas(settings: dict[str, object]) -> None:
    model, blank = _trained(_model(**settings)), torch.zeros(3, 96, 128, dtype=torch.uint8)
    alone = model(ImageBatch.collate([_image(70, 90), blank]))
    crowded = model(ImageBatch.collate([_image(70, 90), _image(96, 50, 1), _image(20, 128, 2), blank]))
    _close(crowded, alone)


@pytest.mark.parametrize("settings", OPTIONS[:-2], ids=str)
@torch.no_grad()
def test_from_equal_features_on_valid_cells_the_canvas_changes_nothing(settings: dict[str, object]) -> None:
    model = _trained(_model(**settings))
    small = model.decode(_features((64, 96)))
    _close(model.decode(_features((160, 128))), small)


def _features(canvas_hw: tuple[int, int]) -> FeaturePyramid:
    """The same features of an image of 64 x 96 px on canvases of several sizes, with sevens around them."""
    canvas = torch.ones(1, *canvas_hw, dtype=torch.bool)
    canvas[:, :64, :96] = False
    generator, levels = torch.Generator().manual_seed(3), []
    for stride in (8, 16, 32):
        level = torch.full((1, 128, canvas_hw[0] // stride, canvas_hw[1] // stride), 7.0)
        level[..., : 64 // stride, : 96 // stride] = torch.randn(
            1, 128, 64 // stride, 96 // stride, generator=generator
        )
        levels.append(level)
    return FeaturePyramid.of(levels, canvas, (8, 16, 32))


@torch.no_grad()
def test_the_decoder_reads_coded_tokens_and_proposals_the_encoders() -> None:
    """The paper's class loss acts on the encoder's feature E; E_cf is the decoder's input."""
    model, pyramid = _model(), _features((64, 96))
    coded: Memory = model.encoder(model.flatten(pyramid), pyramid)
    plain: Memory = model.encoder.encoder(model.flatten(pyramid), pyramid)
    assert torch.equal(coded.proposal_tokens.content, plain.tokens.content)
    assert not torch.equal(coded.tokens.content, plain.tokens.content)
    cross = _model(two_stage_source="cross").encoder(model.flatten(pyramid), pyramid)
    assert cross.proposal_tokens is cross.tokens


@torch.no_grad()
def test_the_output_carries_maps_for_a_picture_of_the_gate() -> None:
    gates = evidence_of(_model()(ImageBatch.collate([_image(64, 96)], 32)).evidence, CrossGates)
    assert gates is not None
    pictured = [part.unflatten(0).shape for part in (gates.backbone, gates.encoder, gates.gate, gates.coded)]
    assert pictured == [(1, 128, 8, 12)] * 4
    assert ((gates.mean_per_level() > 0) & (gates.mean_per_level() < 1)).all()


def test_boost_loss_acts_on_decoder_proposals_and_denoising() -> None:
    """Each set's class loss is Boost loss of its own predictions, and differs from focal loss."""
    config, targets = _config(beta=0.1), _targets((64, 96))
    output = _model().train()(ImageBatch.collate([_image(64, 96)], 32), targets)
    criterion = cross_dino_criterion(config)
    losses = criterion(output, targets, 0.0)
    sets = criterion.supervised_sets(output, targets)
    assert {"", "_0", "_proposals", "_denoising", "_denoising_0"} <= set(sets)
    for suffix, supervised in sets.items():
        boost = CategorySizeClassification(beta=0.1)(supervised, 0.0)["classification"]
        torch.testing.assert_close(losses["classification" + suffix], boost)
        assert boost < FocalClassification()(supervised, 0.0)["classification"]


def test_size_has_no_part_in_the_matching() -> None:
    config, targets = _config(beta=0.05), _targets((64, 96))
    output = _model()(ImageBatch.collate([_image(64, 96)], 32))
    pairs = [
        cross_dino_criterion(each).supervised_sets(output, targets)[""].matches.query for each in (config, _config())
    ]
    assert torch.equal(*pairs)


@pytest.mark.parametrize("size", [(32, 32), (1, 400), (7, 5)])
@torch.no_grad()
def test_odd_sizes_are_answered(size: tuple[int, int]) -> None:
    output = _model()(ImageBatch.collate([_image(*size)], 32))
    assert output.final.boxes_cxcywh.isfinite().all()


def test_a_batch_without_objects_trains() -> None:
    targets = [Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (64, 64))]
    output = _model().train()(ImageBatch.collate([_image(64, 64)]), targets)
    assert all(value.isfinite() for value in cross_dino_criterion(_config())(output, targets, 0.0).values())


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_strip_mlp_backbone_trains(norm: str) -> None:
    """Frozen norms keep their statistics and still learn scale and shift."""
    settings = {"backbone": BackboneConfig(name="strip_mlp_nano", norm=norm, options={"drop_path": 0.0})}
    model = _model(**settings)
    before = {name: buffer.clone() for name, buffer in model.backbone.named_buffers()}
    sum(_losses(model, _config(**settings)).values()).backward()
    moved = [name for name, buffer in model.backbone.named_buffers() if not torch.equal(buffer, before[name])]
    assert bool(moved) == (norm == "batch")
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())


@pytest.mark.parametrize("size", [(32, 64), (33, 47), (1, 400)])
def test_a_strip_mlp_detector_trains_on_odd_sizes(size: tuple[int, int]) -> None:
    config = _config(backbone=BackboneConfig(name="strip_mlp_nano", norm="batch"))
    target = Target.of(torch.tensor([[0.0, 0.0, min(size[1], 8.0), min(size[0], 8.0)]]), torch.tensor([1]), size)
    model = _model(backbone=config.backbone).train()
    output = model(ImageBatch.collate([_image(*size)], config.preprocessing.pad_multiple), [target])
    sum(cross_dino_criterion(config)(output, [target], 0.0).values()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_strip_mlp_says_what_it_cannot_do() -> None:
    with pytest.raises(RuntimeError, match="expected pretrained=False for 'strip_mlp_t'"):
        cross_dino(_config(backbone=STRIP_T), pretrained=True)
    with pytest.raises(ValueError, match="expected norm 'frozen' or 'batch'"):
        cross_dino(_config(backbone=BackboneConfig(name="strip_mlp_t", norm="group")))


@torch.no_grad()
def test_a_window_transformer_answers_a_canvas_of_any_multiple_of_32() -> None:
    model = _model(backbone=SWIN_T, output_norms=True)
    found = model(ImageBatch.collate([_image(90, 150)], 32))
    assert found.final.boxes_cxcywh.isfinite().all()


def test_beta_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"expected model.beta in \(0, 1\]"):
        _config(beta=0.0)


@pytest.mark.parametrize(
    ("name", "beta", "batch_size", "milestones"),
    [
        ("coco", 1.0, 8, (11,)),
        ("widerperson", 1.0, 8, (16, 22)),
        ("visdrone", 0.1, 4, (8, 11)),
        ("ai_tod", 0.05, 2, (8, 11)),
        ("soda_d", 0.1, 4, (8, 11)),
    ],
)
def test_recipes_have_the_papers_settings(name: str, beta: float, batch_size: int, milestones: tuple[int, ...]) -> None:
    experiment = run_recipe(f"cross_dino.{name}", data=Path("somewhere"))
    assert (experiment.model.beta, experiment.training.batch_size) == (beta, batch_size)
    assert experiment.training.milestones == milestones
    assert experiment.pretrained
