"""Tiles in what their geometry promises, for images, tiles and overlaps of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.boxes.tiles import TiledSide, TilePlan


@st.composite
def plans(draw):
    image_hw = (draw(st.integers(1, 400)), draw(st.integers(1, 400)))
    tile = draw(st.integers(1, 150))
    overlap = draw(st.integers(0, min(tile - 1, int(0.9 * tile))))
    return TilePlan(image_hw, tile, overlap)


@given(plans())
def test_windows_cover_the_image_and_have_one_size(plan):
    windows = plan.windows_xyxy
    height, width = plan.image_hw
    assert len(windows) == len(plan)
    assert windows[:, :2].min() == 0 and windows[:, 2].max() == width and windows[:, 3].max() == height
    sizes = (windows[:, 2:] - windows[:, :2]).flip(1)
    assert bool((sizes == torch.tensor(plan.tile_hw)).all())
    assert plan.tile_hw == (min(plan.tile_px, height), min(plan.tile_px, width))


@given(plans())
def test_cores_partition_the_image_and_lie_in_their_windows(plan):
    cores, windows = plan.cores_xyxy, plan.windows_xyxy
    areas = (cores[:, 2:] - cores[:, :2]).clamp(min=0).prod(1)
    assert areas.sum() == plan.image_hw[0] * plan.image_hw[1]
    assert bool((areas > 0).all())
    assert bool((cores[:, :2] >= windows[:, :2]).all() and (cores[:, 2:] <= windows[:, 2:]).all())
    middles = (cores[:, :2] + cores[:, 2:]) / 2
    # Every core owns its own middle and its top left corner: no two of them share a point.
    for points in (middles, cores[:, :2]):
        assert plan.owners(torch.cat([points, points], dim=1)).tolist() == list(range(len(plan)))


@st.composite
def plans_with_boxes_up_to_the_overlap(draw):
    plan = draw(plans())
    height, width = plan.image_hw
    corners = st.tuples(*(st.floats(0, 1) for _ in range(4)))
    shares = torch.tensor(draw(st.lists(corners, min_size=1, max_size=8)), dtype=torch.float64)
    extents = torch.tensor([min(plan.overlap_px, width), min(plan.overlap_px, height)], dtype=torch.float64)
    sizes = shares[:, 2:] * extents
    low = shares[:, :2] * (torch.tensor([width, height]) - sizes)
    return plan, torch.cat([low, low + sizes], dim=1)


@given(plans_with_boxes_up_to_the_overlap())
def test_an_object_up_to_the_overlap_lies_wholly_in_the_window_that_answers_for_it(case):
    plan, boxes = case
    windows = plan.windows_xyxy[plan.owners(boxes)]
    assert bool((boxes[:, :2] >= windows[:, :2] - 1e-6).all() and (boxes[:, 2:] <= windows[:, 2:] + 1e-6).all())


@given(plans_with_boxes_up_to_the_overlap())
def test_a_box_is_in_the_overlap_exactly_where_two_windows_see_a_part_of_it(case):
    plan, boxes = case
    boxes = boxes.round()  # to pixels, so that a window touches by a whole pixel or not at all
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    windows = plan.windows_xyxy
    low, high = torch.maximum(boxes[:, None, :2], windows[:, :2]), torch.minimum(boxes[:, None, 2:], windows[:, 2:])
    seen_by = (high - low > 0).all(-1).sum(1)
    inside = (boxes[:, 2] <= plan.image_hw[1]) & (boxes[:, 3] <= plan.image_hw[0])
    assert plan.in_overlap(boxes)[inside].tolist() == (seen_by > 1)[inside].tolist()


def test_borders_of_cores_are_in_the_middle_of_what_neighbors_share():
    side = TiledSide(extent_px=250, window_px=100, overlap_px=20)
    assert side.starts.tolist() == [0, 80, 150]
    assert side.core_borders.tolist() == [0, 90, 165, 250]


def test_an_image_no_larger_than_a_tile_is_one_window():
    plan = TilePlan((70, 100), tile_px=100, overlap_px=20)
    assert plan.windows_xyxy.tolist() == [[0, 0, 100, 70]]
    assert plan.cores_xyxy.tolist() == [[0, 0, 100, 70]]
    assert not plan.in_overlap(torch.tensor([[0.0, 0.0, 100.0, 70.0]])).any()


def test_centers_outside_the_image_belong_to_its_outer_tiles():
    plan = TilePlan((100, 250), tile_px=100, overlap_px=20)
    assert plan.owners(torch.tensor([[-9.0, -9.0, -5.0, -5.0], [260.0, 110.0, 270.0, 120.0]])).tolist() == [0, 2]


@pytest.mark.parametrize(("image_hw", "tile", "overlap"), [((0, 10), 10, 2), ((10, 10), 10, 10), ((10, 10), 10, -1)])
def test_what_does_not_fit_is_refused(image_hw, tile, overlap):
    with pytest.raises(ValueError, match="expected an image of at least 1 px and an overlap below the tile"):
        TilePlan(image_hw, tile, overlap)
