"""What the query maps are taught."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.boxes import cxcywh_to_xyxy
from smidgen.losses.small_object_map import SmallObjectLoss, small_object_map
from smidgen.structures import DenseOutput, LevelAnswers, Target

BOX = st.tuples(st.integers(0, 128), st.integers(0, 128), st.integers(1, 60), st.integers(1, 60))


def boxes(*boxes_cxcywh: tuple[float, ...]) -> torch.Tensor:
    return cxcywh_to_xyxy(torch.tensor(boxes_cxcywh, dtype=torch.float32).reshape(-1, 4))


def output(*maps: tuple[int, torch.Tensor]) -> DenseOutput:
    nothing = LevelAnswers(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4), None, (1, 1), 1)
    return DenseOutput((nothing,) * 3, (4, 8, 16), (128, 128), ((128, 128),), maps)


def target(boxes_xyxy: torch.Tensor, ignore: torch.Tensor | None = None) -> Target:
    return Target.of(boxes_xyxy, torch.zeros(len(boxes_xyxy), dtype=torch.long), (128, 128), ignore=ignore)


@settings(max_examples=15)
@given(st.lists(BOX, max_size=6), st.sampled_from([(8, 32.0), (16, 64.0)]), st.sampled_from(["object", "threshold"]))
def test_a_cell_is_positive_within_reach_of_its_nearest_small_object(
    objects: list[tuple[int, ...]], level: tuple[int, float], radius: str
) -> None:
    stride, limit = level
    shape = (128 // stride, 128 // stride)
    mapped = small_object_map(boxes(*objects), shape, stride, (0.0, limit), radius)  # type: ignore[arg-type]
    small = [(x, y, math.sqrt(w * h)) for x, y, w, h in objects if math.sqrt(w * h) < limit]
    for row in range(shape[0]):
        for column in range(shape[1]):
            center = ((column + 0.5) * stride, (row + 0.5) * stride)
            near = [(math.dist(center, (x, y)), size) for x, y, size in small]
            if not near:
                assert not mapped[row, column]
                continue
            distance, size = min(near, key=lambda pair: pair[0])
            ambiguous = len({size for other, size in near if other == distance}) > 1
            reach = size if radius == "object" else limit
            if not ambiguous and abs(distance - reach) > 1e-3:
                assert mapped[row, column] == (distance < reach)


def test_a_larger_object_does_not_reach_cells_nearer_to_a_tiny_one() -> None:
    large, tiny = (68.0, 68.0, 30.0, 30.0), (44.0, 68.0, 2.0, 2.0)
    alone = small_object_map(boxes(large), (16, 16), 8, (0.0, 32.0))
    both = small_object_map(boxes(large, tiny), (16, 16), 8, (0.0, 32.0))
    assert alone[8, 6]
    assert not both[8, 6], "16 px from the large object, but 8 px from the tiny one, whose own size is 2 px"


def test_more_than_half_of_objects_of_6_px_have_no_cell_on_p4_unless_their_own_counts() -> None:
    """In a cell of 16 px the circle of 6 px around its center covers pi 36 / 256 = 44 %."""
    places = [(48.0 + x, 48.0 + y) for x in range(1, 16, 2) for y in range(1, 16, 2)]
    found = {
        own_cell: [
            bool(small_object_map(boxes((*place, 6.0, 6.0)), (8, 8), 16, (0.0, 64.0), own_cell=own_cell)[3, 3])
            for place in places
        ]
        for own_cell in (False, True)
    }
    assert sum(found[False]) / 64 == pytest.approx(math.pi * 36 / 256, abs=0.07)
    assert all(found[True])


def test_own_cells_are_those_of_small_objects_on_the_map() -> None:
    objects = boxes(
        (8.0, 40.0, 2.0, 2.0), (120.0, 120.0, 100.0, 100.0), (127.99, 0.0, 3.0, 3.0), (128.0, 64.0, 1.0, 1.0)
    )
    own = small_object_map(objects, (8, 8), 16, (0.0, 64.0), own_cell=True)
    assert own.nonzero().tolist() == [[0, 7], [2, 0], [4, 7]]


def test_the_limit_is_excluded() -> None:
    exactly = boxes((36.0, 36.0, 32.0, 32.0))
    assert not small_object_map(exactly, (16, 16), 8, (0.0, 32.0)).any()
    assert small_object_map(exactly, (8, 8), 16, (0.0, 64.0)).any(), "what is small on P3 is small on P4, too"


def test_an_untrained_map_over_background_costs_what_the_specification_computes() -> None:
    maps = output((1, torch.zeros(1, 16, 16)), (2, torch.zeros(1, 16, 16)))
    losses = SmallObjectLoss(level_weights=(10.0, 10.0))(maps, [target(boxes())], 0.0)
    assert losses["small_object"].item() == pytest.approx(10 * 2 * 0.75 * 0.5**1.2 * math.log(2), rel=1e-5)


def test_cells_in_ignore_regions_teach_objects_only() -> None:
    region = torch.tensor([[0.0, 0, 64, 128]])
    maps = output((1, torch.zeros(1, 16, 16, requires_grad=True)))
    SmallObjectLoss()(maps, [target(boxes((36.0, 36.0, 16.0, 16.0)), region)], 0.0)["small_object"].backward()
    gradient = maps.query_logits[0][1].grad
    assert gradient is not None
    assert gradient[0, 4, 4] < 0, "an object in the region is learned"
    assert gradient[0, 12, 2] == 0, "background there is not"
    assert gradient[0, 12, 12] > 0


def test_an_output_without_maps_has_no_such_loss() -> None:
    assert SmallObjectLoss()(output(), [target(boxes())], 0.0) == {}


def test_a_weight_is_needed_for_each_map() -> None:
    with pytest.raises(ValueError, match="each of 1 query maps"):
        SmallObjectLoss(level_weights=(1.0, 2.0))(output((1, torch.zeros(1, 16, 16))), [target(boxes())], 0.0)
