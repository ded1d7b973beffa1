"""Which regions the second stage is taught on, and what they are said to show."""

from __future__ import annotations

import torch

from smidgen.assignment.anchor_overlap import AnchorOverlap
from smidgen.assignment.balanced_sampling import BalancedSampling
from smidgen.assignment.region_sampling import RegionSampling
from smidgen.structures import Target
from smidgen.structures.regions import Regions

NUM_CLASSES = 5


def _sampling(number: int = 512) -> RegionSampling:
    return RegionSampling(
        assignment=AnchorOverlap(foreground_iou=0.5, background_iou=0.5, low_quality=False),
        sampling=BalancedSampling(number=number, positive_share=0.25),
        num_classes=NUM_CLASSES,
    )


def _target(boxes: list[list[float]], labels: list[int]) -> Target:
    return Target.of(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.long), (100, 100)
    )


def test_objects_join_the_regions_and_know_themselves() -> None:
    regions = Regions(torch.tensor([[0.0, 0, 10, 10], [0, 0, 50, 50]]), torch.tensor([0, 1]), 2)
    targets = [_target([[60, 60, 70, 70]], [3]), _target([], [])]
    chosen, truth = _sampling()(regions, targets)
    assert chosen.image.tolist() == [0, 0, 1]
    assert truth.labels.tolist() == [NUM_CLASSES, 3, NUM_CLASSES]
    assert chosen.boxes_xyxy[1].tolist() == truth.boxes_xyxy[1].tolist() == [60, 60, 70, 70]


def test_a_region_that_overlaps_an_object_by_half_shows_it() -> None:
    """Faster R-CNN's second stage: IoU of at least 0.5."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 4.9], [0, 0, 10, 5.1]])
    _, truth = _sampling()(Regions(boxes, torch.zeros(3, dtype=torch.long), 1), [_target([[0, 0, 10, 10]], [2])])
    assert truth.labels.tolist() == [2, NUM_CLASSES, 2, 2]


def test_no_more_regions_than_asked_for_and_a_quarter_positive() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(40, 1)
    boxes = torch.cat([boxes, boxes + 50])
    regions = Regions(boxes, torch.zeros(80, dtype=torch.long), 1)
    _, truth = _sampling(16)(regions, [_target([[0, 0, 10, 10]], [1])])
    assert sorted(truth.labels.tolist()) == [1] * 4 + [NUM_CLASSES] * 12


def test_background_in_an_ignore_region_is_not_taught() -> None:
    target = Target.of(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (100, 100), ignore=torch.tensor([[0.0, 0, 20, 20]])
    )
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    chosen, _ = _sampling()(Regions(boxes, torch.zeros(2, dtype=torch.long), 1), [target])
    assert chosen.boxes_xyxy.tolist() == [[50, 50, 60, 60]]
