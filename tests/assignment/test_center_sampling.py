"""Which points answer for which object."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smidgen.assignment import center_sampling
from smidgen.assignment.center_sampling import CenterSampling
from smidgen.boxes.anchors import cell_centers
from smidgen.boxes.answer_matches import BACKGROUND, LEFT_OUT
from smidgen.structures import Target

STRIDES = (4, 8)
POINTS = [cell_centers((64 // stride, 64 // stride), stride) for stride in STRIDES]
RULE = CenterSampling(limits_px=(16.0, math.inf))
COORDINATE = st.integers(0, 50)
BOXES = st.lists(st.tuples(COORDINATE, COORDINATE, st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6)


def target(boxes: list[list[float]], ignore: Tensor | None = None) -> Target:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Target.of(corners, torch.zeros(len(boxes), dtype=torch.long), (64, 64), ignore=ignore)


def owner_of(point: Tensor, stride: int, low: float, high: float, boxes: list[list[float]]) -> int:
    """FCOS's rule, point by point: among the objects that want it, the smallest."""
    x, y = point.tolist()
    wanting = []
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        sides = (x - x0, y - y0, x1 - x, y1 - y)
        central = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < 1.5 * stride
        if min(sides) > 0 and low <= max(sides) <= high and central:
            wanting.append(((x1 - x0) * (y1 - y0), index))
    return min(wanting)[1] if wanting else BACKGROUND


@settings(max_examples=10)
@given(BOXES)
def test_every_point_is_matched_as_the_rule_says(boxes: list[tuple[int, ...]]) -> None:
    corners = [[float(x), float(y), float(x + w), float(y + h)] for x, y, w, h in boxes]
    expected = [
        owner_of(point, stride, low, high, corners)
        for points, stride, low, high in zip(POINTS, STRIDES, (0, 16), (16, math.inf), strict=True)
        for point in points
    ]
    assert RULE(POINTS, STRIDES, target(corners)).target.tolist() == expected


def test_small_objects_go_to_the_fine_level_and_large_ones_to_the_coarse() -> None:
    matches = RULE(POINTS, STRIDES, target([[8.0, 8, 16, 16], [20.0, 20, 60, 60]]))
    fine, coarse = matches.target.split([256, 64])
    assert set(fine.tolist()) == {BACKGROUND, 0}
    assert set(coarse.tolist()) == {BACKGROUND, 1}


def test_without_a_radius_every_point_in_the_object_answers() -> None:
    rule = CenterSampling(limits_px=(math.inf,), radius=None)
    matches = rule(POINTS[:1], STRIDES[:1], target([[0.0, 0, 64, 64]]))
    assert matches.positive.all()


def test_points_in_ignore_regions_teach_objects_only() -> None:
    region = torch.tensor([[0.0, 0, 32, 32]])
    matches = RULE(POINTS, STRIDES, target([[8.0, 8, 16, 16]], region))
    fine = matches.target[:256].unflatten(0, (16, 16))
    assert fine[2, 2] == 0
    assert fine[7, 7] == LEFT_OUT
    assert fine[8, 8] == BACKGROUND
    empty = RULE(POINTS, STRIDES, target([], region))
    assert not empty.positive.any()
    assert (~empty.counted).sum() == 8 * 8 + 4 * 4


def test_going_through_the_points_piece_by_piece_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = target([[8.0, 8, 16, 16], [20.0, 20, 60, 60]], torch.tensor([[0.0, 0, 32, 32]]))
    whole = RULE(POINTS, STRIDES, objects)
    monkeypatch.setattr(center_sampling, "PAIRS_AT_ONCE", 50)
    assert torch.equal(RULE(POINTS, STRIDES, objects).target, whole.target)


def test_a_limit_is_needed_for_each_level() -> None:
    with pytest.raises(ValueError, match="one size limit for each of 2 levels"):
        CenterSampling()(POINTS, STRIDES, target([]))
