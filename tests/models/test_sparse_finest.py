"""A sparse finest level in whole systems: an option that is off by default, trains, and answers image by image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smidgen.models import configure, create_criterion, create_model
from smidgen.structures import DetectorOutput, FeaturePyramid, ImageBatch, Target, evidence_of
from smidgen.tokens.sparse_finest_level import FinestLevel, SparseFinestLevel

SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "dino": ("dino_5scale_nano", {"share": 0.1}),
    "dino, own layers": ("dino_5scale_nano", {"share": 0.1, "own_layers": 1}),
    "salience_detr": ("salience_detr_5scale_nano", {"share": 0.1}),
}


def build(system: str) -> Any:
    torch.manual_seed(0)
    name, option = SYSTEMS[system]
    return create_model(name, num_classes=2, num_queries=20, sparse_finest=option)


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def evidence(output: DetectorOutput) -> FinestLevel:
    level = evidence_of(output.evidence, FinestLevel)
    assert level is not None
    return level


@pytest.mark.parametrize("name", ["dino_5scale_nano", "salience_detr_5scale_nano"])
def test_off_by_default(name: str) -> None:
    assert configure(name, {"num_classes": 2}).sparse_finest is None


@pytest.mark.parametrize("system", SYSTEMS)
def test_trains_and_teaches_the_query_head(system: str) -> None:
    model = build(system).train()
    targets = [
        Target.of(torch.tensor([[20.0, 20.0, 29.0, 30.0]]), torch.tensor([1]), size) for size in ((64, 70), (50, 64))
    ]
    output = model(ImageBatch.collate([image(64, 70), image(50, 64, 1)], pad_multiple=32), targets)
    losses = create_criterion(model)(output, targets, 0.0)
    assert "finest_level" in losses
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.query.parameters())
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_batch_mates_change_nothing_and_the_share_is_each_images_own(system: str) -> None:
    model = build(system).eval()
    canvas = image(96, 128, 9)
    alone = model(ImageBatch.collate([image(64, 70), canvas]))
    crowded = model(ImageBatch.collate([image(64, 70), image(96, 50, 1), canvas]))
    torch.testing.assert_close(crowded.final.logits[0], alone.final.logits[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(crowded.final.boxes_cxcywh[0], alone.final.boxes_cxcywh[0], atol=1e-5, rtol=0)
    # Rounded up to cells of 4 tokens: at most one cell more than the share.
    assert (evidence(crowded).share <= 0.1 + 5 / (13 * 24)).all()


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_queries_never_start_at_tokens_that_do_not_exist(system: str) -> None:
    model = build(system).eval()
    output = model(ImageBatch.collate([image(64, 96)]))
    level = evidence(output)
    chosen = set(level.chosen.index[0][~level.chosen.padding[0]].tolist())
    started = set(output.token_index[0][~output.final.padding[0]].tolist())
    finest = {token for token in started if token < 16 * 24}
    assert finest <= chosen


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_from_equal_features_on_valid_cells_the_canvas_changes_nothing(system: str) -> None:
    model, logits = build(system).eval(), []
    for canvas_hw in ((64, 96), (128, 128)):
        canvas = torch.ones(1, *canvas_hw, dtype=torch.bool)
        canvas[:, :64, :96] = False
        levels = []
        for stride in model.backbone.strides:
            level = torch.full((1, 128, canvas_hw[0] // stride, canvas_hw[1] // stride), 7.0)
            generator = torch.Generator().manual_seed(stride)
            level[..., : 64 // stride, : 96 // stride] = torch.randn(
                1, 128, 64 // stride, 96 // stride, generator=generator
            )
            levels.append(level)
        logits.append(model.decode(FeaturePyramid.of(levels, canvas, model.backbone.strides)).final.logits)
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (33, 101), (7, 5)])
@pytest.mark.parametrize("system", ["dino", "salience_detr"])
@torch.no_grad()
def test_images_of_any_shape_are_answered(system: str, size: tuple[int, int]) -> None:
    model = build(system).eval()
    (found,) = model.detect(ImageBatch.collate([image(*size)]), [size])
    assert found.boxes_xyxy.isfinite().all()


@torch.no_grad()
def test_the_whole_level_answers_as_dense_dino() -> None:
    dense = create_model("dino_5scale_nano", num_classes=2, num_queries=20).eval()
    sparse = create_model("dino_5scale_nano", num_classes=2, num_queries=20, sparse_finest={"share": 1.0}).eval()
    state = dense.state_dict()
    moved = {name.replace("encoder.layers", "encoder.encoder.layers", 1): value for name, value in state.items()}
    missing = sparse.load_state_dict(moved, strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("encoder.query.") for name in missing.missing_keys)
    images = ImageBatch.collate([image(64, 70), image(50, 90, 1)])
    expected, found = dense(images).final, sparse(images).final
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.boxes_cxcywh, expected.boxes_cxcywh, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dino_nano", {"sparse_finest": {}}, "levels from stride 4"),
        ("dino_5scale_nano", {"sparse_finest": {}, "parity": True}, r"model\.parity"),
        ("dino_5scale_nano", {"sparse_finest": {"own_layers": -1}}, "own_layers"),
        ("salience_detr_5scale_nano", {"sparse_finest": {"own_layers": 0}}, "own_layers"),
        ("dino_5scale_nano", {"sparse_finest": {"shared": 0.1}}, "shared"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(name, num_classes=2, **settings)


def test_the_encoder_stage_shows_the_option() -> None:
    assert isinstance(build("dino").encoder, SparseFinestLevel)
