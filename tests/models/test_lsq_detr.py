"""LSQ-DETR and DQ-DETR: sizes, budgets per image, padding, odd images, learning, official names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smidgen.checkpoints.counting_layouts import DQ_DETR, LSQ_DETR
from smidgen.checkpoints.renaming import from_official, to_official
from smidgen.losses import GIoULoss, L1Loss
from smidgen.losses.scale_weighting import ScaleWeighting
from smidgen.models import configure, create_criterion, create_model
from smidgen.models.detr import DETR
from smidgen.models.dq_detr import DQDETRConfig, dq_detr, dq_detr_criterion, num_detections
from smidgen.models.lsq_detr import LSQDETRConfig, lsq_detr, lsq_detr_criterion, table_of_quotas
from smidgen.structures import DetectorOutput, FeaturePyramid, ImageBatch, Memory, Target, evidence_of
from smidgen.tokens.object_counting import ObjectCount

SYSTEMS = ["lsq_detr_nano", "dq_detr_nano"]


def _model(name: str, **settings: Any) -> DETR:
    torch.manual_seed(1)
    return create_model(name, num_classes=4, **settings).eval()


def _image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _on_canvas(images: list[torch.Tensor], height: int, width: int) -> ImageBatch:
    """The images on a canvas of at least this size: a blank image of that size comes last."""
    return ImageBatch.collate([*images, torch.zeros(3, height, width, dtype=torch.uint8)])


class Counted(torch.nn.Module):
    """Stands in for the counter's answer: image b is of class classes[b]."""

    def __init__(self, stage: torch.nn.Module, classes: tuple[int, ...]) -> None:
        super().__init__()
        self.stage, self.classes = stage, classes

    def forward(self, memory: Memory, pyramid: FeaturePyramid) -> Memory:
        enhanced: Memory = self.stage(memory, pyramid)
        logits = torch.nn.functional.one_hot(torch.tensor(self.classes), 4).float()
        return Memory(enhanced.tokens, enhanced.proposal_tokens, (ObjectCount(logits, (10, 25, 50)),))


def _first(output: DetectorOutput) -> tuple[torch.Tensor, torch.Tensor]:
    assert output.final.padding is not None
    exists = ~output.final.padding[0]
    return output.final.logits[0][exists], output.final.boxes_cxcywh[0][exists]


def test_official_sizes() -> None:
    """Parameters of the official code with 9 outputs, whose label table has 92 rows."""
    with torch.device("meta"):
        lsq = lsq_detr(LSQDETRConfig(num_classes=9))
        dq = dq_detr(DQDETRConfig(num_classes=9))
    assert sum(parameter.numel() for parameter in lsq.parameters()) == 58_916_802
    assert sum(parameter.numel() for parameter in dq.parameters()) == 58_925_266


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_each_image_is_asked_as_many_queries_as_its_count_needs(name: str) -> None:
    model = _model(name)
    model.encoder.stages[0] = Counted(model.encoder.stages[0], (0, 2))
    output = model(ImageBatch.collate([_image(160, 160), _image(160, 160, 1)]))
    assert output.final.padding is not None
    budgets = model.config.budgets
    assert (~output.final.padding).sum(1).tolist() == [budgets[0], budgets[2]]


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_batch_mates_change_nothing_whatever_they_hold(name: str) -> None:
    model = _model(name)
    stage = model.encoder.stages[0]
    image = _image(70, 90)
    model.encoder.stages[0] = Counted(stage, (1, 0))
    alone = _first(model(_on_canvas([image], 96, 128)))
    model.encoder.stages[0] = Counted(stage, (1, 3, 0, 2))
    crowded = _first(model(_on_canvas([image, _image(96, 50, 1), _image(20, 128, 2)], 96, 128)))
    torch.testing.assert_close(crowded, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_from_equal_features_on_valid_cells_the_canvas_changes_nothing(name: str) -> None:
    model = _model(name)
    answers = []
    for height, width in ((64, 96), (160, 128)):
        canvas = torch.ones(1, height, width, dtype=torch.bool)
        canvas[:, :64, :96] = False
        generator, levels = torch.Generator().manual_seed(3), []
        for stride in (8, 16, 32):
            level = torch.full((1, 128, height // stride, width // stride), 7.0)
            level[..., : 64 // stride, : 96 // stride] = torch.randn(
                1, 128, 64 // stride, 96 // stride, generator=generator
            )
            levels.append(level)
        output = model.decode(FeaturePyramid.of(levels, canvas, (8, 16, 32)))
        count = evidence_of(output.evidence, ObjectCount)
        assert count is not None
        answers.append((*_first(output), count.logits))
    torch.testing.assert_close(answers[1], answers[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (1, 4000), (7, 5)])
@torch.no_grad()
def test_odd_sizes_give_finite_boxes(name: str, parity: bool, size: tuple[int, int]) -> None:
    (found,) = _model(name, parity=parity).detect(ImageBatch.collate([_image(*size)]), [size])
    assert found.boxes_xyxy.isfinite().all()


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("counting", ["light", "categorical"])
def test_every_parameter_learns_also_from_a_batch_with_an_empty_image(name: str, counting: str) -> None:
    model = _model(name, counting=counting).train()
    images = ImageBatch.collate([_image(64, 64), _image(48, 80, 1)])
    targets = [
        Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0], [30.0, 30.0, 34.0, 33.0]]), torch.tensor([0, 3]), (64, 64)),
        Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (48, 80)),
    ]
    losses = create_criterion(model)(model(images, targets), targets, 0.0)
    assert losses["object_count"] > 0
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_images_of_32_px_without_objects_train() -> None:
    model = _model("lsq_detr_nano").train()
    targets = [Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (32, 32))]
    losses = create_criterion(model)(model(ImageBatch.collate([_image(32, 32)]), targets), targets, 0.0)
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize("field", ["quotas", "count_thresholds"])
def test_what_is_left_to_the_data_must_be_resolved_before_building(field: str) -> None:
    with pytest.raises(ValueError, match=f"model.{field}"):
        _model("lsq_detr_nano", **{field: "auto"})


def test_a_file_of_dq_detr_fits_lsq_detr_without_its_channel_gate() -> None:
    settings: dict[str, Any] = {"quotas": "paper"}
    dq, lsq = (
        _model("dq_detr_nano", counting="categorical"),
        _model("lsq_detr_nano", counting="categorical", **settings),
    )
    official = to_official(DQ_DETR, dq)
    assert "transformer.CCM.ccm.10.weight" in official
    assert "transformer.CGFE.ChannelGate.mlp.3.bias" in official
    assert "transformer.multiscale.conv2.gn.weight" in official
    assert DQ_DETR.recognizes(official) and LSQ_DETR.recognizes(official)
    official.pop("transformer.CGFE.SpatialGate.spatial.bn.num_batches_tracked")
    lsq.load_state_dict(from_official(LSQ_DETR, lsq, official))
    for name, tensor in lsq.state_dict().items():
        assert torch.equal(tensor, dq.state_dict()[name])
    assert not DQ_DETR.recognizes(to_official(LSQ_DETR, lsq))


def _box_terms(criterion: Any) -> dict[type, tuple[float, Any]]:
    return {type(term): (weight, term.weighting) for weight, term in criterion.terms if hasattr(term, "weighting")}


@pytest.mark.parametrize("parity", [False, True])
def test_lsq_weighs_box_losses_by_size_and_more_than_dq(parity: bool) -> None:
    """5.5 and 2.2 in place of 5 and 2; the official sides are those of an image of 800 x 800."""
    terms = _box_terms(lsq_detr_criterion(LSQDETRConfig(num_classes=4, parity=parity)))
    weighting = ScaleWeighting(
        bins_px=(4, 8, 16, 32),
        weights=(3.0, 2.5, 2.0, 1.5, 1.0),
        decay=0.5,
        constant_side_px=800 if parity else None,
        per_process_mean=parity,
    )
    assert terms == {L1Loss: (5.5, weighting), GIoULoss: (2.2, weighting)}
    assert _box_terms(dq_detr_criterion(DQDETRConfig(num_classes=4, parity=parity))) == {
        L1Loss: (5.0, None),
        GIoULoss: (2.0, None),
    }


def test_settings_of_the_scale_weights_reach_the_loss() -> None:
    config = LSQDETRConfig(num_classes=4, scale_bins_px=(10,), scale_weights=(4.0, 2.0), scale_decay=0.25)
    _, weighting = _box_terms(lsq_detr_criterion(config))[L1Loss]
    assert (weighting.bins_px, weighting.weights, weighting.decay) == ((10,), (4.0, 2.0), 0.25)


@pytest.mark.parametrize("parity", [False, True])
def test_the_selection_shares_out_valid_tokens_unless_the_official_one_is_asked_for(parity: bool) -> None:
    model: Any = _model("lsq_detr_nano", parity=parity)
    assert (model.selection.redistribute, model.selection.skip_invalid) == (not parity, not parity)
    assert (model.budget.per_batch, model.readout.clip) == (parity, not parity)


def test_detections_are_as_many_as_the_largest_budget_or_officially_as_the_query_rows() -> None:
    assert num_detections(DQDETRConfig(num_classes=4)) == 1500
    assert num_detections(DQDETRConfig(num_classes=4, parity=True)) is None
    assert num_detections(LSQDETRConfig(num_classes=4, num_detections=7, parity=True)) == 7


@pytest.mark.parametrize("kind", [DQDETRConfig, LSQDETRConfig])
@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"budgets": (300, 500)}, "model.budgets or model.count_thresholds"),
        ({"budgets": (0, 1, 2, 3)}, "model.budgets"),
        ({"count_thresholds": "auto", "budgets": ()}, "model.budgets"),
        ({"count_thresholds": (10, 10, 500)}, "model.count_thresholds"),
        ({"count_thresholds": (0, 10, 500)}, "model.count_thresholds"),
        ({"num_detections": 0}, "model.num_detections"),
    ],
)
def test_counts_and_budgets_that_do_not_fit_are_refused_before_any_data_is_read(
    kind: Any, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=field):
        kind(num_classes=4, **settings)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"quotas": {0: (1.0,)}}, "model.quotas"),
        ({"quotas": {300: (0.5, 0.4)}}, "model.quotas"),
        ({"quotas": {300: (0.5, 0.3, 0.2)}, "num_levels": 2}, "model.quotas or model.num_levels"),
        ({"scale_bins_px": (4, 8)}, "model.scale_weights or model.scale_bins_px"),
        ({"scale_bins_px": (8, 4, 16, 32)}, "model.scale_bins_px"),
        ({"scale_weights": (3.0, 2.0, 1.0, 1.0, 0.0)}, "model.scale_weights"),
        ({"scale_decay": -1.0}, "model.scale_decay"),
    ],
)
def test_shares_and_scale_weights_that_do_not_fit_are_refused_too(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        LSQDETRConfig(num_classes=4, **settings)
    with pytest.raises(ValueError, match=field):
        configure("lsq_detr_r50", {"num_classes": 4, **settings})


def test_what_is_left_to_the_data_is_not_checked_before() -> None:
    config = LSQDETRConfig(num_classes=4, budgets=(100, 200), count_thresholds="auto", quotas="auto")
    assert config.budgets == (100, 200)


@torch.no_grad()
def test_one_level_gets_all_queries() -> None:
    assert table_of_quotas(LSQDETRConfig(num_classes=4, num_levels=1)) == dict.fromkeys((300, 500, 900, 1500), (1.0,))
    model = _model("lsq_detr_nano", num_levels=1, backbone={"strides": [32]}, quotas="paper")
    (found,) = model.detect(ImageBatch.collate([_image(64, 96)]), [(64, 96)])
    assert found.boxes_xyxy.isfinite().all() and len(found.boxes_xyxy) > 0
