"""Salience DETR as a whole: sizes, variants and images of any shape."""

from __future__ import annotations

import pytest
import torch

from smidgen.models import create_criterion, create_model
from smidgen.structures import FeaturePyramid, ImageBatch, Target, evidence_of
from smidgen.tokens.cross_level_fusion import fused
from smidgen.tokens.salience_filtering import SalienceMaps


def _image(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("salience_detr_r50", {}, 56_080_495),
        ("salience_detr_r50", {"fusion": False}, 49_412_701),
        ("salience_detr_5scale_r50", {}, 51_504_239),
    ],
)
def test_official_parameter_counts(name: str, settings: dict[str, object], expected: int) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=91, **settings)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


FIVE_LEVELS = {
    "num_levels": 5,
    "level_ratios": [0.25, 0.5, 0.8, 1.0, 1.0],
    "level_limits_px": [32, 64, 128, 256, 99999],
}


def test_a_real_five_level_variant_works() -> None:
    """The official code has four in three places."""
    model = create_model("salience_detr_5scale_nano", num_classes=3, num_queries=20, **FIVE_LEVELS).train()
    targets = [Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0]]), torch.tensor([1]), (96, 128))]
    output = model(ImageBatch.collate([_image(96, 128)], pad_multiple=32), targets)
    losses = create_criterion(model)(output, targets, 0.0)
    sum(losses.values()).backward()
    maps = evidence_of(output.evidence, SalienceMaps)
    assert maps is not None
    assert [tuple(level.shape[1:]) for level in maps.logits] == [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize(
    "backbone",
    [
        {"name": "swin_tiny_patch4_window7_224", "frozen_stages": 1, "options": {"strict_img_size": False}},
        {"name": "convnext_atto", "frozen_stages": 1},
        {"name": "focalnet_tiny_srf", "frozen_stages": 1},
    ],
    ids=lambda backbone: backbone["name"],
)
@torch.no_grad()
def test_backbones_of_the_large_sizes_fit(backbone: dict[str, object]) -> None:
    """Their smaller relatives: window transformers have their channels last."""
    model = create_model("salience_detr_nano", num_classes=3, num_queries=20, backbone=backbone).eval()
    (found,) = model.detect(ImageBatch.collate([_image(90, 150)], pad_multiple=32), [(90, 150)])
    assert found.boxes_xyxy.isfinite().all()


@pytest.mark.parametrize("size", [(32, 32), (1, 4000), (4000, 1), (7, 5)])
@torch.no_grad()
def test_images_of_any_shape_are_answered(size: tuple[int, int]) -> None:
    model = create_model("salience_detr_nano", num_classes=3, num_queries=20).eval()
    (found,) = model.detect(ImageBatch.collate([_image(*size)], pad_multiple=32), [size])
    assert found.boxes_xyxy.isfinite().all()


@torch.no_grad()
def test_more_queries_than_survivors_are_filled_up() -> None:
    """Official issue 34: with fewer survivors than learned queries the decoder fails."""
    model = create_model("salience_detr_nano", num_classes=1, num_queries=80).eval()
    output = model(ImageBatch.collate([_image(96, 96)], pad_multiple=32))
    assert output.final.logits.shape[1] == 80


@torch.no_grad()
def test_the_fused_detector_answers_the_same() -> None:
    model = create_model("salience_detr_nano", num_classes=3, num_queries=20).eval()
    images = ImageBatch.collate([_image(64, 96)], pad_multiple=32)
    expected, found = model(images), fused(model)(images)
    torch.testing.assert_close(found.final.boxes_cxcywh, expected.final.boxes_cxcywh, atol=1e-5, rtol=0)


def test_layer_ratios_are_one_per_layer() -> None:
    with pytest.raises(ValueError, match="each of 2 encoder layers"):
        create_model("salience_detr_nano", num_classes=1, layer_ratios=[1.0])


def test_a_batch_without_objects_trains() -> None:
    model = create_model("salience_detr_nano", num_classes=2, num_queries=20).train()
    targets = [Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (64, 64))]
    losses = create_criterion(model)(model(ImageBatch.collate([_image(64, 64)]), targets), targets, 0.0)
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["salience_detr_nano", "lsq_detr_nano", "dq_detr_nano"])
@torch.no_grad()
def test_squares_of_4000_px_are_answered(name: str) -> None:
    """The background table has 200 entries; maps here have 500 rows and columns."""
    model = create_model(name, num_classes=3).eval()
    (found,) = model.detect(ImageBatch.collate([_image(4000, 4000)], pad_multiple=32), [(4000, 4000)])
    assert found.boxes_xyxy.isfinite().all()


@pytest.mark.parametrize(
    "settings",
    [
        {"values": "refined"},
        {"densely_attended": 0},
        {"background_rows": 0},
        {"salience_confidence": "paper", "level_limits_px": None},
        {"modulate_after_norm": True, "best_by": "probabilities"},
    ],
    ids=str,
)
def test_the_papers_readings_train(settings: dict[str, object]) -> None:
    model = create_model("salience_detr_nano", num_classes=2, num_queries=20, **settings).train()
    targets = [Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0]]), torch.tensor([1]), (64, 64))]
    losses = create_criterion(model)(model(ImageBatch.collate([_image(64, 64)]), targets), targets, 0.0)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("size", [(32, 32), (20, 50)])
def test_the_smallest_images_train(size: tuple[int, int]) -> None:
    """Maps of one cell: a batch norm over one value must not refuse it."""
    model = create_model("salience_detr_nano", num_classes=2, num_queries=20).train()
    targets = [Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0]]), torch.tensor([1]), size)]
    losses = create_criterion(model)(model(ImageBatch.collate([_image(*size)], 32), targets), targets, 0.0)
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@torch.no_grad()
def test_a_canvas_beyond_the_background_table_changes_nothing_for_an_image_within_it() -> None:
    torch.manual_seed(0)
    model = create_model("salience_detr_nano", num_classes=2, num_queries=20, background_rows=16).eval()
    shapes = []
    for canvas_hw in ((96, 128), (192, 256)):
        canvas = torch.ones(1, *canvas_hw, dtype=torch.bool)
        canvas[:, :96, :128] = False
        generator = torch.Generator().manual_seed(3)
        levels = []
        for stride in (8, 16, 32):
            level = torch.zeros(1, 128, canvas_hw[0] // stride, canvas_hw[1] // stride)
            shown = torch.randn(1, 128, 96 // stride, 128 // stride, generator=generator)
            level[..., : shown.shape[-2], : shown.shape[-1]] = shown
            levels.append(level)
        shapes.append(model.decode(FeaturePyramid.of(levels, canvas, (8, 16, 32))).final.logits)
    torch.testing.assert_close(shapes[1], shapes[0], atol=1e-5, rtol=0)


def test_registered_proposals_need_a_registered_encoder() -> None:
    """The encoder judges tokens with the proposal stage: another one would be trained by nobody."""
    with pytest.raises(ValueError, match="expected a registered encoder beside"):
        create_model("salience_detr_nano", num_classes=2, parts={"proposals": "mine"})


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = create_model("salience_detr_nano", num_classes=2, num_queries=20).train()
        if checkpointing:
            model.enable_activation_checkpointing()
        model(ImageBatch.collate([_image(64, 64)])).final.boxes_cxcywh.sum().backward()
        gradients.append(model.neck.levels[0][0].weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)
