"""What holds for every member of the DETR family: batch mates, padding, odd sizes, gradients, empty images."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from smidgen.models import CATALOGUE, configure, create_criterion, create_model
from smidgen.models.detr import DETR
from smidgen.structures import DetectorOutput, FeaturePyramid, ImageBatch, Target

NANO = sorted(
    name for name in CATALOGUE if name.endswith("_nano") and hasattr(configure(name, {"num_classes": 1}), "transformer")
)


# Few queries, so that what is selected matters; those that count have a budget for each class of counts.
FEW = {"num_queries": 20}
COUNTED = {"budgets": [5, 10, 15, 20], "quotas": {20: [0.6, 0.3, 0.1]}}


def _model(name: str, **settings: object) -> DETR:
    torch.manual_seed(1)
    fields = {field.name for field in dataclasses.fields(configure(name, {"num_classes": 1}))}
    few = {key: value for key, value in (FEW | COUNTED).items() if key in fields}
    return create_model(name, num_classes=4, **few, **settings).eval()


def _image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _on_canvas(images: list[torch.Tensor], height: int, width: int) -> ImageBatch:
    """The images on a canvas of at least this size: a blank image of that size comes last."""
    return ImageBatch.collate([*images, torch.zeros(3, height, width, dtype=torch.uint8)])


def _close(found: DetectorOutput, expected: DetectorOutput, atol: float) -> None:
    torch.testing.assert_close(found.final.logits[:1], expected.final.logits[:1], atol=atol, rtol=0)
    torch.testing.assert_close(found.final.boxes_cxcywh[:1], expected.final.boxes_cxcywh[:1], atol=atol, rtol=0)


@pytest.mark.parametrize("name", NANO)
@torch.no_grad()
def test_batch_mates_change_nothing_on_the_same_canvas(name: str) -> None:
    model = _model(name)
    image = _image(70, 90)
    alone = model(_on_canvas([image], 96, 128))
    crowded = model(_on_canvas([image, _image(96, 50, 1), _image(20, 128, 2)], 96, 128))
    _close(crowded, alone, 1e-5)


@pytest.mark.parametrize("name", NANO)
@torch.no_grad()
def test_from_equal_features_on_valid_cells_the_canvas_changes_nothing(name: str) -> None:
    model = _model(name)
    small = torch.zeros(1, 64, 96, dtype=torch.bool)
    large = torch.ones(1, 160, 128, dtype=torch.bool)
    large[:, :64, :96] = False
    pyramids = []
    for canvas in (small, large):
        generator = torch.Generator().manual_seed(3)
        levels = []
        for stride in model.backbone.strides:
            valid = torch.randn(1, 128, 64 // stride, 96 // stride, generator=generator)
            level = torch.full((1, 128, canvas.shape[1] // stride, canvas.shape[2] // stride), 7.0)
            level[..., : valid.shape[-2], : valid.shape[-1]] = valid
            levels.append(level)
        pyramids.append(FeaturePyramid.of(levels, canvas, model.backbone.strides))
    _close(model.decode(pyramids[1]), model.decode(pyramids[0]), 1e-5)


@pytest.mark.parametrize("name", ["dino_nano", "deformable_detr_one_stage_nano", "dino_5scale_nano"])
@pytest.mark.parametrize("size", [(32, 32), (1, 400), (400, 1), (7, 5)])
@torch.no_grad()
def test_odd_sizes_give_finite_boxes_inside_the_image(name: str, size: tuple[int, int]) -> None:
    (found,) = _model(name).detect(ImageBatch.collate([_image(*size)]), [size])
    assert found.boxes_xyxy.isfinite().all()
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy[:, 2] <= size[1]).all()
    assert (found.boxes_xyxy[:, 3] <= size[0]).all()


@pytest.mark.parametrize("name", NANO)
def test_every_parameter_learns(name: str) -> None:
    model = _model(name).train()
    images = ImageBatch.collate([_image(64, 64), _image(48, 80, 1)])
    targets = [
        Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0], [30.0, 30.0, 34.0, 33.0]]), torch.tensor([0, 3]), (64, 64)),
        Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (48, 80)),
    ]
    losses = create_criterion(model)(model(images, targets), targets, 0.0)
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_batch_without_objects_trains() -> None:
    model = _model("dino_nano").train()
    targets = [Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (64, 64))]
    losses = create_criterion(model)(model(ImageBatch.collate([_image(64, 64)]), targets), targets, 0.0)
    assert all(value.isfinite() for value in losses.values())


@torch.no_grad()
def test_training_targets_change_no_matching_query() -> None:
    """Matching queries do not see denoising queries, so asking them changes nothing else."""
    model = _model("dino_nano")
    images = ImageBatch.collate([_image(64, 64)])
    targets = [Target.of(torch.tensor([[4.0, 4.0, 20.0, 12.0]]), torch.tensor([2]), (64, 64))]
    with_targets = model(images, targets)
    assert with_targets.denoising is not None
    _close(with_targets, model(images), 1e-5)


@torch.no_grad()
def test_an_image_with_fewer_tokens_than_the_budget_gets_fewer_detections() -> None:
    model = create_model("dino_nano", num_classes=1, num_queries=150).eval()
    tiny, large = model.detect(ImageBatch.collate([_image(16, 16), _image(160, 160, 1)]), [(16, 16), (160, 160)])
    assert 0 < len(tiny) < len(large) == 150


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = _model("dino_nano").train()
        if checkpointing:
            model.enable_activation_checkpointing()
        output = model(ImageBatch.collate([_image(64, 64)]))
        output.final.boxes_cxcywh.sum().backward()
        gradients.append(model.neck.levels[0][0].weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def test_look_forward_twice_reaches_the_layer_before() -> None:
    """DINO, section 3.5: the loss of layer i trains the refinement of layer i - 1, the last layer's the one before
    it.
    """
    model = _model("dino_plus_nano", relation=False).train()
    output = model(ImageBatch.collate([_image(64, 64)]))
    output.final.boxes_cxcywh.sum().backward()
    reached = [head.layers[-1].bias.grad is not None for head in model.decoder.refinement.box_heads]
    assert reached == [False, True, True]
