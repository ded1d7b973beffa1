"""H-DETR's hybrid branch and PaQ-DETR's one-to-many layers in a whole detector."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.losses import GIoULoss, L1Loss, SetLoss, VarifocalClassification
from smidgen.models import create_model
from smidgen.models.detr import DETR
from smidgen.queries.content import LearnedContent
from smidgen.queries.hybrid_queries import HybridQueries
from smidgen.structures import ImageBatch, Target

NUM_CLASSES, WIDTH, NUM_QUERIES, NUM_MORE = 3, 128, 20, 30
TERMS = [(1.0, VarifocalClassification()), (5.0, L1Loss()), (2.0, GIoULoss())]


def _model(name: str = "dino_nano", hybrid: bool = True, num_more: int = NUM_MORE, **settings: Any) -> DETR:
    torch.manual_seed(1)
    model = create_model(name, num_classes=NUM_CLASSES, num_queries=NUM_QUERIES, **settings)
    if hybrid:
        model.one_to_many = HybridQueries(LearnedContent(num_more, WIDTH), num_more)
    return model.eval()


def _images(*sizes: tuple[int, int]) -> ImageBatch:
    generator = torch.Generator().manual_seed(2)
    return ImageBatch.collate(
        [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]
    )


def _targets(*sizes: tuple[int, int], num_objects: int = 2) -> list[Target]:
    boxes = torch.tensor([[2.0, 3.0, 20.0, 24.0], [8.0, 4.0, 28.0, 30.0]])[:num_objects]
    return [Target.of(boxes, torch.arange(num_objects), size) for size in sizes]


@pytest.mark.parametrize("name", ["dino_nano", "deformable_detr_nano"])
@torch.no_grad()
def test_evaluation_is_bit_identical_with_and_without_the_branch(name: str) -> None:
    images = _images((96, 96), (64, 80))
    plain, hybrid = _model(name, hybrid=False)(images), _model(name)(images)
    assert torch.equal(plain.final.logits, hybrid.final.logits)
    assert torch.equal(plain.final.boxes_cxcywh, hybrid.final.boxes_cxcywh)
    assert hybrid.one_to_many is None


@pytest.mark.parametrize("denoising_queries", [0, 10])
@torch.no_grad()
def test_in_training_the_branch_changes_nothing_the_matching_queries_say(denoising_queries: int) -> None:
    sizes = ((96, 96), (64, 80))
    settings = {"denoising_queries": denoising_queries}
    outputs = []
    for hybrid in (False, True):
        model = _model(hybrid=hybrid, **settings)
        torch.manual_seed(3)
        outputs.append(model(_images(*sizes), _targets(*sizes)))
    plain, branched = outputs
    torch.testing.assert_close(branched.final.logits, plain.final.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(branched.final.boxes_cxcywh, plain.final.boxes_cxcywh, atol=1e-5, rtol=0)
    assert plain.one_to_many is None
    assert branched.one_to_many is not None and len(branched.one_to_many.layers) == 3
    assert branched.one_to_many.layers[-1].logits.shape == (2, NUM_MORE, NUM_CLASSES)
    assert (branched.denoising is None) == (denoising_queries == 0)


def test_each_object_has_six_queries_of_the_branch_in_every_layer() -> None:
    output = _model()(_images((96, 96)), _targets((96, 96)))
    sets = SetLoss(HungarianAssignment(), TERMS).supervised_sets(output, _targets((96, 96)))
    for suffix in ("_one_to_many_0", "_one_to_many_1", "_one_to_many"):
        matches = sets[suffix].matches
        assert (matches.target % 2).bincount().tolist() == [6, 6]
        assert len(matches.query.unique()) == 12, "no query answers for two"


@pytest.mark.parametrize("num_more", [NUM_MORE, 1500])
def test_images_of_32_pixels_train_with_fewer_queries_than_the_branch_would_have(num_more: int) -> None:
    model, sizes = _model(num_more=num_more).train(), ((32, 32), (40, 24))
    output = model(_images(*sizes), _targets(*sizes))
    losses = SetLoss(HungarianAssignment(), TERMS)(output, _targets(*sizes), 0.0)
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    present = ~output.one_to_many.layers[-1].padding
    assert present.sum() < present.numel()


def test_the_branch_learns_its_content_and_teaches_the_decoder() -> None:
    model = _model().train()
    output = model(_images((96, 96)), _targets((96, 96)))
    losses = SetLoss(HungarianAssignment(), TERMS)(output, _targets((96, 96)), 0.0)
    of_branch = {name: value for name, value in losses.items() if "one_to_many" in name}
    assert len(of_branch) == 9
    sum(of_branch.values()).backward()
    assert model.one_to_many.content.table.weight.grad.abs().sum() > 0
    assert all(any(p.grad is not None for p in layer.parameters()) for layer in model.decoder.layers)
    assert model.content.table.weight.grad is None or not model.content.table.weight.grad.any()


@pytest.mark.parametrize("num_objects", [0, 2])
def test_a_detector_trains_a_step_with_quality_one_to_many_layers(num_objects: int) -> None:
    """PaQ-DETR's supervision: intermediate layers one-to-many, the last layer one-to-one."""
    model = _model(hybrid=False).train()
    targets = _targets((96, 96), (64, 80), num_objects=num_objects)
    criterion = SetLoss(HungarianAssignment(), TERMS, assignments={"auxiliary": QualityOneToMany(min_positives=3)})
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.decoder.layers[0].self_attention.in_proj_weight.detach().clone()
    output = model(_images((96, 96), (64, 80)), targets)
    sets = criterion.supervised_sets(output, targets)
    assert len(sets[""].matches) == len(targets) * num_objects
    assert all(len(sets[suffix].matches) > len(sets[""].matches) or not num_objects for suffix in ("_0", "_1"))
    losses = criterion(output, targets, 0.0)
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    assert not torch.equal(before, model.decoder.layers[0].self_attention.in_proj_weight)


def test_the_branch_keeps_its_own_assignment_beside_quality_layers() -> None:
    targets = _targets((96, 96))
    output = _model()(_images((96, 96)), targets)
    criterion = SetLoss(HungarianAssignment(), TERMS, assignments={"auxiliary": QualityOneToMany()})
    plain = SetLoss(HungarianAssignment(), TERMS)
    ours, expected = (rule.supervised_sets(output, targets)["_one_to_many_0"].matches for rule in (criterion, plain))
    assert torch.equal(ours.query, expected.query) and torch.equal(ours.target, expected.target)
