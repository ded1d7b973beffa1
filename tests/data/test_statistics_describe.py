"""Planted sets give the planted numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from table_cases import dataset_of, table_of, tables

from smidgen.data.object_sizes import object_sides_px
from smidgen.data.statistics.covered_area import covered_areas
from smidgen.data.statistics.crowding import crowding
from smidgen.data.statistics.describe import describe
from smidgen.data.statistics.distribution import Histogram, round_edges
from smidgen.data.statistics.object_table import ObjectTable, row_numbers
from smidgen.data.statistics.overlaps import overlapping_pairs
from smidgen.structures import Preprocessing

SEEN = Preprocessing(short_side=200, long_side=400)  # twice 100 x 200


def test_planted_sizes_counts_and_classes() -> None:
    small, large = (10, 10, 14, 14), (50, 20, 90, 60)
    found = describe(dataset_of([[small, large, small], [], [large]], labels=[[0, 1, 0], [], [1]]), SEEN)
    assert (found.objects, found.images.number, found.images.without_objects) == (4, 3, 1)
    assert found.images.sizes_wh == ((200, 100, 3),)
    assert found.per_image.histogram.counts[:4] == (1, 1, 0, 1)
    assert found.on_disk.bins == {
        "aitod": {"verytiny": 2, "tiny": 0, "small": 0, "medium": 2},
        "coco": {"small": 2, "medium": 2, "large": 0},
    }
    assert found.at_input.bins["aitod"] == {"verytiny": 0, "tiny": 2, "small": 0, "medium": 2}
    assert found.at_input.bins["coco"] == {"small": 2, "medium": 2, "large": 0}
    assert sum(found.at_input.by_class["car"]) == 2
    car, boat = found.classes.classes
    assert (car.objects, car.images, car.median_px) == (2, 1, 4.0)
    assert (boat.objects, boat.images, boat.median_px) == (2, 2, 40.0)
    assert found.classes.effective == pytest.approx(2)
    assert found.placement.covered is not None
    assert found.placement.covered.largest == pytest.approx((16 + 1600) / 20000)
    assert np.sum(found.placement.density) == pytest.approx(1)


def test_a_place_that_several_boxes_cover_counts_once() -> None:
    group, pair, alone = (
        [(0, 0, 6, 4), (4, 2, 8, 8), (5, 0, 20, 3)],
        [(30, 0, 40, 2), (35, 1, 40, 4)],
        [(90, 9, 99, 10)],
    )
    table = table_of([[*group, *pair, *alone, *alone], [], pair])
    drawn = np.zeros((3, 100, 200), dtype=bool)
    for number, (x0, y0, x1, y1) in zip(table.image, table.boxes_xyxy.astype(int), strict=True):
        drawn[number, y0:y1, x0:x1] = True
    assert covered_areas(table).tolist() == pytest.approx(drawn.sum(axis=(1, 2)).tolist())


def test_where_objects_lie() -> None:
    density = np.array(describe(dataset_of([[(196, 0, 200, 4)]]), SEEN).placement.density)
    assert density[0, -1] == 1 and density.sum() == 1


@pytest.mark.parametrize("images", [[], [[]], [[], []]])
def test_nothing_to_count(images: list[list[tuple[float, ...]]]) -> None:
    found = describe(dataset_of(images), SEEN)
    assert (found.objects, found.images.number) == (0, len(images))
    assert found.at_input.quantiles is None and found.crowding.nearest is None
    json.dumps(found.to_json(), allow_nan=False)


@given(tables)
@settings(max_examples=20, deadline=None)
def test_histograms_hold_every_object(table: ObjectTable) -> None:
    found = Histogram.of(table.sides_px, (0, 4, 8))
    assert sum(found.counts) == len(table)
    assert found.counts[0] == (table.sides_px < 4).sum()
    rows = np.column_stack([table.image, table.labels])
    numbers = row_numbers(rows)
    assert ((numbers[:, None] == numbers) == (rows[:, None] == rows).all(axis=2)).all()


def test_edges_are_round_and_reach_the_largest() -> None:
    assert round_edges(0) == (0.0,)
    for largest in (1, 7, 57, 118, 2667):
        edges = round_edges(largest)
        assert len(edges) <= 21 and edges[-1] >= largest - (edges[1] - edges[0])
    assert Histogram.of(np.array([0, 1, 5]), (0, 1, 2)).labels == ("0-1", "1-2", "2+")


def test_neighbors_in_sizes_of_the_object() -> None:
    # Two of 10 px, 15 px apart, one of 2 px far away, and one alone in its image.
    near = [(0, 0, 10, 10), (15, 0, 25, 10), (100, 90, 102, 92)]
    found = crowding(table_of([near, [(0, 0, 10, 10)]]))
    assert found.alone == pytest.approx(1 / 4)
    assert found.nearest is not None and found.neighbors is not None
    assert found.nearest.smallest == pytest.approx(1.5)
    assert found.neighbors.mean == pytest.approx(2 / 4)


def test_overlapping_pairs_of_one_class() -> None:
    boxes = [(0, 0, 10, 10), (0, 0, 10, 8), (0, 0, 10, 6), (50, 50, 60, 60)]
    found = crowding(table_of([boxes, [(0, 0, 10, 10)]], labels=[[0, 0, 1, 0], [0]]))
    # IoU 0.8 (same class), 0.6 and 0.75 (of two classes).
    assert [(row.iou, row.pairs, row.same_class) for row in found.overlaps] == [(0.3, 3, 1), (0.5, 3, 1), (0.7, 2, 1)]


@given(tables)
@settings(max_examples=20, deadline=None)
def test_the_sweep_finds_what_all_pairs_show(table: ObjectTable) -> None:
    pairs, ious = overlapping_pairs(table, 0.1)
    low, high = table.boxes_xyxy[:, :2], table.boxes_xyxy[:, 2:]
    shared_wh = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = shared_wh.clip(min=0).prod(axis=2)
    expected = shared / (table.areas_px[:, None] + table.areas_px - shared)
    expected *= np.triu(table.image[:, None] == table.image, k=1)
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} == set(zip(*np.nonzero(expected > 0.1), strict=True))
    assert np.allclose(ious, expected[pairs.min(axis=1), pairs.max(axis=1)])


@given(tables)
@settings(max_examples=20, deadline=None)
def test_neighborhoods_against_all_distances(table: ObjectTable) -> None:
    found = crowding(table)
    apart = np.linalg.norm(table.centers_xy[:, None] - table.centers_xy, axis=2)
    apart[table.image[:, None] != table.image] = np.inf
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1, initial=np.inf)
    kept = np.isfinite(nearest)
    assert found.alone == pytest.approx(1 - kept.mean() if len(table) else 0)
    if kept.any():
        assert found.nearest is not None and found.neighbors is not None
        assert found.nearest.mean == pytest.approx((nearest[kept] / table.sides_px[kept]).mean())
        least, most = (((apart <= 2 * table.sides_px[:, None] + e).sum(axis=1)).mean() for e in (-1e-9, 1e-9))
        assert least - 1e-9 <= found.neighbors.mean <= most + 1e-9


def test_the_table_at_the_input_has_the_sides_that_quotas_are_derived_from() -> None:
    dataset = dataset_of([[(10, 10, 14, 14)], [(0, 0, 30, 20)]], size_hw=(99, 201))
    assert ObjectTable.of(dataset).at_input(SEEN).sides_px.tolist() == object_sides_px(dataset, SEEN).tolist()
