"""Bounds of recall: planted ones are met, and a larger budget, input or pyramid never lowers them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_cases import table_of, tables

from smidgen.boxes import pairwise_iou
from smidgen.boxes.anchors import AnchorShapes, octave_sizes
from smidgen.data.statistics.anchor_fit import best_anchor_ious
from smidgen.data.statistics.cells import pyramid_bound, share_of_side, share_with_own_cell
from smidgen.data.statistics.limits import bound_per_image, bound_per_image_and_class, bound_per_level
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.data.statistics.overlaps import overlapping_pairs
from smidgen.data.statistics.suppression import suppression_bound
from smidgen.data.statistics.tiles import tile_statistics
from smidgen.structures import Preprocessing

AS_IT_IS = Preprocessing(short_side=100, long_side=200)
BOX = (10.0, 10.0, 14.0, 14.0)


def test_a_third_of_thirty_objects_fits_a_budget_of_ten() -> None:
    crowd = table_of([[BOX] * 30], labels=[[0] * 15 + [1] * 15])
    assert bound_per_image(crowd, 10) == pytest.approx(1 / 3)
    assert bound_per_image_and_class(crowd, 10) == pytest.approx(2 / 3)
    assert bound_per_image(table_of([[BOX] * 30, [BOX] * 10]), 10) == pytest.approx(1 / 2)


@given(tables, st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_larger_budgets_never_find_less(table: ObjectTable, first: int, second: int) -> None:
    few, many = sorted((first, second))
    for bound in (bound_per_image, bound_per_image_and_class):
        assert 0 <= bound(table, few) <= bound(table, many) <= 1
    assert bound_per_image(table, few) <= bound_per_image_and_class(table, few)


def test_queries_on_the_wrong_level_find_nothing() -> None:
    table, levels = table_of([[BOX] * 4]), np.array([0, 0, 0, 1])
    assert bound_per_level(table, levels, np.array([[2.0, 0.0]])) == pytest.approx(2 / 4)
    assert bound_per_level(table, levels, np.array([[3.0, 9.0]])) == 1
    assert bound_per_level(table_of([[]]), np.zeros(0, np.int64), np.zeros((1, 2))) == 1


@given(tables, st.integers(20, 400), st.integers(20, 400))
@settings(max_examples=20, deadline=None)
def test_larger_inputs_never_show_less(table: ObjectTable, first: int, second: int) -> None:
    small, large = (table.at_input(Preprocessing(short_side=s, long_side=2 * s)) for s in sorted((first, second)))
    assert share_of_side(small, 8) <= share_of_side(large, 8)


@given(tables)
@settings(max_examples=20, deadline=None)
def test_finer_strides_and_more_levels_never_find_less(table: ObjectTable) -> None:
    for bound in (share_with_own_cell, pyramid_bound):
        assert bound(table, (16,)) <= bound(table, (8,)) <= bound(table, (4,))
        assert bound(table, (8,)) <= bound(table, (8, 16)) <= bound(table, (4, 8, 16))


def test_centers_that_share_a_cell_take_the_cells_above() -> None:
    # Three centers in one cell of stride 8, hence one of stride 16; a fourth far away.
    boxes = [(0, 0, 8, 8), (1, 1, 9, 9), (2, 2, 10, 10), (96, 48, 112, 64)]
    table = table_of([boxes])
    assert share_with_own_cell(table, (8,)) == pytest.approx(2 / 4)
    assert share_with_own_cell(table, (8, 16)) == pytest.approx(3 / 4)
    assert share_with_own_cell(table, (8, 16, 32)) == 1
    assert pyramid_bound(table, (16,)) == pytest.approx(1 / 4)  # only one spans 16 px
    assert share_with_own_cell(table_of([boxes[:1], boxes[:1]]), (8,)) == 1  # in two images


def test_tiles_enlarge_and_cut() -> None:
    # Tiles of 50 px without overlap in an image of 200 x 100: the border at x = 50 cuts one object of two.
    table = table_of([[(48, 10, 52, 14), (10, 10, 14, 14)]])
    found = tile_statistics(table, 50, 0.0, AS_IT_IS, least_px=8)
    assert (found.tiles, found.zoom, found.whole, found.shown, found.bound) == (8, 2, 0.5, 1, 0.5)
    assert tile_statistics(table, 50, 0.2, AS_IT_IS, least_px=8).bound == 1
    assert tile_statistics(table, 200, 0.0, AS_IT_IS, least_px=8).bound == 0  # as it is, 4 px are too few
    assert tile_statistics(table_of([[]]), 50, 0.0, AS_IT_IS, least_px=8).bound == 1
    with pytest.raises(ValueError, match="overlap"):
        tile_statistics(table, 50, 1.0, AS_IT_IS, least_px=8)


@given(tables, st.sampled_from([30, 41, 64, 100, 150]), st.sampled_from([0.0, 0.2, 0.35, 0.5]))
@settings(max_examples=20, deadline=None)
def test_whole_objects_are_those_that_some_tile_holds(table: ObjectTable, tile_px: int, overlap: float) -> None:
    found = tile_statistics(table, tile_px, overlap, AS_IT_IS, least_px=0)
    step = tile_px * (1 - overlap)
    starts = [sorted({min(i * step, max(0, side - tile_px)) for i in range(200)}) for side in (200, 100)]
    held = [
        all(any(start <= box[axis] and box[axis + 2] <= start + tile_px for start in starts[axis]) for axis in (0, 1))
        for box in table.boxes_xyxy.tolist()
    ]
    assert found.whole == pytest.approx(np.mean(held) if held else 1)
    if table.num_images:
        assert found.tiles == len(starts[0]) * len(starts[1])


@given(tables, st.sampled_from([0.0, 0.5]))
@settings(max_examples=15, deadline=None)
def test_the_best_anchor_of_all(table: ObjectTable, offset: float) -> None:
    torch = pytest.importorskip("torch")
    strides = (8, 16)
    anchors = AnchorShapes(octave_sizes([4.0 * stride for stride in strides]), offset=offset)
    every = [
        anchors.of_level(level, (-(-100 // stride), -(-200 // stride)), stride).flatten(0, 1)
        for level, stride in enumerate(strides)
    ]
    ious = pairwise_iou(torch.from_numpy(table.boxes_xyxy).float(), torch.cat(every))
    expected = ious.amax(dim=1).numpy() if len(table) else np.zeros(0)
    assert np.allclose(best_anchor_ious(table, anchors, strides), expected, atol=1e-5)


def test_suppression_loses_one_of_each_group() -> None:
    twins = [(0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60), (50, 50, 60, 59)]
    table = table_of([twins], labels=[[0, 0, 0, 1]])
    pairs, ious = overlapping_pairs(table, 0.5)
    assert suppression_bound(table, pairs, ious, 0.5) == pytest.approx(3 / 4)
    assert suppression_bound(table, pairs, ious, 0.95) == 1
    empty = table_of([[]])
    assert suppression_bound(empty, *overlapping_pairs(empty, 0.5), 0.5) == 1
