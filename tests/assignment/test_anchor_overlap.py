"""Which anchors answer for which object, against a matcher that goes through the objects one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smidgen.assignment import anchor_overlap
from smidgen.assignment.anchor_overlap import AnchorOverlap
from smidgen.boxes import pairwise_iou
from smidgen.boxes.anchors import AnchorShapes
from smidgen.boxes.answer_matches import BACKGROUND, LEFT_OUT
from smidgen.structures import Target

ANCHORS = torch.cat(
    [
        AnchorShapes(((8.0,), (16.0,))).of_level(level, (8 // stride, 8 // stride), 8 * stride).flatten(0, 1)
        for level, stride in enumerate((1, 2))
    ]
)
COORDINATE = st.integers(-10, 70)
BOXES = st.lists(st.tuples(COORDINATE, COORDINATE, st.integers(1, 30), st.integers(1, 30)), max_size=8)


def target(boxes: list[tuple[int, ...]] | list[list[float]], ignore: Tensor | None = None) -> Target:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Target.of(corners, torch.zeros(len(boxes), dtype=torch.long), (64, 64), ignore=ignore)


def one_by_one(anchors: Tensor, boxes: Tensor, foreground: float, background: float, rescue: bool) -> list[int]:
    """The rule as the specification words it."""
    owners = []
    overlap = pairwise_iou(anchors, boxes)
    for row in overlap:
        best = max(range(len(boxes)), key=lambda index: (row[index], -index))
        if row[best] >= foreground or (rescue and row[best] > 0 and row[best] == overlap[:, best].max()):
            owners.append(best)
        else:
            owners.append(BACKGROUND if row[best] < background else LEFT_OUT)
    return owners


@settings(max_examples=15)
@given(BOXES.filter(bool), st.sampled_from([(0.5, 0.4), (0.7, 0.3)]), st.booleans())
def test_every_anchor_is_matched_as_the_rule_says(
    boxes: list[tuple[int, ...]], thresholds: tuple[float, float], rescue: bool
) -> None:
    objects = target([(x, y, x + w, y + h) for x, y, w, h in boxes])
    rule = AnchorOverlap(foreground_iou=thresholds[0], background_iou=thresholds[1], low_quality=rescue)
    expected = one_by_one(ANCHORS, objects.boxes_xyxy, *thresholds, rescue)
    assert rule(ANCHORS, objects).target.tolist() == expected


def test_a_tiny_object_gets_its_best_anchor_although_none_fits() -> None:
    matches = AnchorOverlap()(ANCHORS, target([[15.0, 15, 17, 17]]))
    assert matches.positive.any()
    assert not AnchorOverlap(low_quality=False)(ANCHORS, target([[15.0, 15, 17, 17]])).positive.any()


def test_an_object_that_no_anchor_overlaps_claims_nothing() -> None:
    """In the official one-by-one matcher it would own every anchor that overlaps nothing, if it came first."""
    matches = AnchorOverlap()(ANCHORS, target([[500.0, 500, 510, 510], [12.0, 12, 20, 20]]))
    assert not (matches.target == 0).any()
    assert (matches.target == 1).any()


def test_an_image_without_objects_is_background() -> None:
    assert AnchorOverlap()(ANCHORS, target([])).background.all()


def test_background_in_ignore_regions_is_left_out_but_objects_there_are_learned() -> None:
    regions = torch.tensor([[0.0, 0, 40, 40]])
    matches = AnchorOverlap()(ANCHORS, target([[12.0, 12, 20, 20]], regions))
    free = AnchorOverlap()(ANCHORS, target([[12.0, 12, 20, 20]]))
    assert torch.equal(matches.positive, free.positive)
    assert (free.background & ~matches.counted).any()
    assert matches.background.any(), "outside the region background is still learned"


def test_going_through_the_anchors_piece_by_piece_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = target([[0.0, 0, 9, 9], [20.0, 20, 40, 30], [21.0, 20, 40, 30]])
    whole = AnchorOverlap()(ANCHORS, objects)
    monkeypatch.setattr(anchor_overlap, "PAIRS_AT_ONCE", 50)
    assert torch.equal(AnchorOverlap()(ANCHORS, objects).target, whole.target)


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="background_iou <= foreground_iou"):
        AnchorOverlap(foreground_iou=0.3, background_iou=0.7)
