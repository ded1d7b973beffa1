"""Denoising, matching and losses: no loop over objects or queries, no block of one image against another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from counted_work.counter import python_lines, tensor_work

from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.decoder.readout import TopScoring
from smidgen.losses import FocalClassification, GIoULoss, L1Loss, SetLoss, VarifocalClassification
from smidgen.queries.denoising import ContrastiveDenoising, Denoising
from smidgen.structures import Classes, DetectorOutput, Predictions, Target

NUM_CLASSES = 4
CLASSES = Classes.numbered(NUM_CLASSES)
MOST_CALLS_PER_IMAGE = 180
"""Of one set that is matched: costs are made image by image, so that none is held against another (92 and 68 calls; 158
where objects are copied, which is two matchings)."""


def targets_of(counts: Sequence[int]) -> tuple[Target, ...]:
    """Images of 800 x 800 px with so many objects, which lie side by side."""
    targets = []
    for count in counts:
        place = torch.arange(count)
        corners = torch.stack([place % 30, place // 30], dim=1) * 25.0
        labels = torch.randint(NUM_CLASSES, (count,))
        targets.append(Target.of(torch.cat([corners, corners + 20], dim=1), labels, (800, 800)))
    return tuple(targets)


def predictions_near(targets: Sequence[Target], queries: int) -> Predictions:
    """Queries of which the first ones lie on the objects, so that every object has one of its own."""
    boxes = torch.rand(len(targets), queries, 4) * 0.1 + 0.45
    for image, target in enumerate(targets):
        boxes[image, : len(target)] = target.boxes_cxcywh
    return Predictions(torch.randn(len(targets), queries, NUM_CLASSES).requires_grad_(), boxes.requires_grad_())


def matched(rule: Any, objects: int, queries: int, images: int = 2) -> Callable[[], Any]:
    targets = targets_of([objects] * images)
    predictions = predictions_near(targets, queries)
    return lambda: rule(predictions, targets)


RULES: dict[str, Callable[[], Any]] = {
    "hungarian": HungarianAssignment,
    "quality": QualityOneToMany,
    "quality by copies": lambda: QualityOneToMany(select="hungarian_copies", costs=HungarianAssignment().costs),
}


@pytest.mark.parametrize("name", RULES)
def test_matching_does_not_loop_over_objects_or_queries(name: str) -> None:
    """As many calls and lines of Python for 300 objects and 400 queries as for 3 and 20."""
    rule = RULES[name]()
    few, many = matched(rule, 3, 20), matched(rule, 300, 400)
    assert tensor_work(few).calls == tensor_work(many).calls
    assert python_lines(few) == python_lines(many)


@pytest.mark.parametrize("name", RULES)
def test_matching_never_pairs_predictions_with_objects_of_another_image(name: str) -> None:
    """Four images cost the bytes of one four times; blocks across images would cost them sixteen times."""
    rule = RULES[name]()
    one, four = (tensor_work(matched(rule, 100, 200, images)) for images in (1, 4))
    assert four.allocated < 4.5 * one.allocated
    assert four.calls <= one.calls + 3 * MOST_CALLS_PER_IMAGE


def test_costs_of_images_with_few_objects_are_small() -> None:
    """Of 100, 1, 1 and 1 objects: a batch that pads everybody to the fullest image holds at most that image's costs
    four times, and never those of all images' objects.
    """
    rule = HungarianAssignment()
    uneven, even = (targets_of(counts) for counts in ([100, 1, 1, 1], [100] * 4))
    bytes_uneven, bytes_even = (
        tensor_work(rule, predictions_near(targets, 200), targets).allocated for targets in (uneven, even)
    )
    assert bytes_uneven <= bytes_even


@pytest.mark.parametrize("make", [ContrastiveDenoising, Denoising])
def test_denoising_does_not_loop_over_objects_or_groups(make: Callable[..., Any]) -> None:
    part = make(NUM_CLASSES, 8)
    few, many = targets_of([2, 3]), targets_of([90, 40])
    assert tensor_work(part, few).calls == tensor_work(part, many).calls
    assert python_lines(part, few) == python_lines(part, many)


@pytest.mark.parametrize("make", [ContrastiveDenoising, Denoising])
def test_denoising_costs_bytes_by_its_query_rows(make: Callable[..., Any]) -> None:
    """Twice the images of twice the objects: at most four times the bytes. Masks of queries by queries are made later,
    as rows know their group.
    """
    part = make(NUM_CLASSES, 64, groups=lambda _: 5) if make is ContrastiveDenoising else make(NUM_CLASSES, 64)
    few, many = (tensor_work(part, targets_of([objects] * images)) for images, objects in ((2, 40), (4, 80)))
    assert many.allocated < 4.1 * few.allocated


def criterion() -> SetLoss:
    terms = [(1.0, FocalClassification()), (5.0, L1Loss()), (2.0, GIoULoss())]
    return SetLoss(HungarianAssignment(), terms)


def quality_criterion() -> SetLoss:
    terms = [(1.0, VarifocalClassification()), (5.0, L1Loss()), (2.0, GIoULoss())]
    return SetLoss(HungarianAssignment(), terms, further_assignments={"quality": QualityOneToMany()})


def learned(loss: SetLoss, objects: int, queries: int, images: int = 2, layers: int = 2) -> Callable[[], None]:
    """A loss of so many decoder layers and its gradient."""
    targets = targets_of([objects] * images)
    every = [predictions_near(targets, queries) for _ in range(layers)]
    output = DetectorOutput(every[-1], auxiliary=tuple(every[:-1]), proposals=predictions_near(targets, queries))
    return lambda: sum(loss(output, targets, 0.5).values()).backward()


@pytest.mark.parametrize("make", [criterion, quality_criterion])
def test_a_loss_does_not_loop_over_objects_or_queries(make: Callable[[], SetLoss]) -> None:
    loss = make()
    few, many = learned(loss, 3, 20), learned(loss, 200, 300)
    assert tensor_work(few).calls == tensor_work(many).calls
    assert python_lines(few) == python_lines(many)


def test_a_loss_calls_by_the_set_and_bounded_by_the_image() -> None:
    """Every further decoder layer costs the same, every further image at most its matching and its targets."""
    loss = criterion()
    two, three, five = (tensor_work(learned(loss, 3, 20, layers=layers)).calls for layers in (2, 3, 5))
    assert five - three == 2 * (three - two)
    images = tensor_work(learned(loss, 3, 20, images=4)).calls
    assert images - two <= 2 * 3 * MOST_CALLS_PER_IMAGE


def test_a_loss_never_holds_one_image_against_another() -> None:
    loss = criterion()
    one, four = (tensor_work(learned(loss, 100, 200, images)) for images in (1, 4))
    assert four.allocated < 4.5 * one.allocated


def test_reading_out_costs_a_few_calls_for_any_number_of_queries() -> None:
    """An image's detections are cut out of the batch's; nothing goes query by query or class by class."""
    readout = TopScoring(100)

    def read(queries: int, images: int = 2) -> tuple[int, int]:
        output = DetectorOutput(predictions_near(targets_of([1] * images), queries))
        arguments = readout, output, [(480, 640)] * images, CLASSES
        return tensor_work(*arguments).calls, python_lines(*arguments)

    assert read(10) == read(500)
    (two, _), (six, _) = read(10, 2), read(10, 6)
    assert six - two <= 4 * 10
