"""Tiling and merging find what an ideal detector finds in the whole image, and nothing is lost or doubled at seams."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smidgen.boxes import pairwise_iou
from smidgen.boxes.overlapping_pairs import overlapping_pairs
from smidgen.boxes.tile_merging import Merging, SeenBoxes, merge_views
from smidgen.boxes.tiles import TilePlan

KINDS = ("nms", "soft", "fusion", "none")


def seen_in_tiles(plan, boxes, labels, least_visible=0.5, noise=None, scores=None):
    """What a detector reports that finds, in each tile, the visible part of all it sees enough of."""
    parts = []
    scores = torch.full((len(boxes),), 0.9) if scores is None else scores
    for tile, window in enumerate(plan.windows_xyxy.to(boxes.dtype)):
        moved = boxes if noise is None else boxes + noise(len(boxes))
        visible = torch.cat([torch.maximum(moved[:, :2], window[:2]), torch.minimum(moved[:, 2:], window[2:])], dim=1)
        extent = (visible[:, 2:] - visible[:, :2]).clamp(min=0).prod(1)
        rows = torch.nonzero(extent >= least_visible * (moved[:, 2:] - moved[:, :2]).prod(1))[:, 0]
        rows = rows[extent[rows] > 0]
        views = torch.full((len(rows),), tile)
        owned = plan.owners(visible[rows]) == tile
        parts.append((visible[rows], scores[rows], labels[rows], views, window.expand(len(rows), 4), owned))
    return SeenBoxes(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def rows_of(boxes, labels):
    return sorted((*box, label) for box, label in zip(boxes.tolist(), labels.tolist(), strict=True))


@st.composite
def scenes(draw):
    """An image of any size under tiles of any size, with objects smaller than the overlap, many of them overlapping."""
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    tile = draw(st.integers(max(3, max(height, width) // 5), 60))
    plan = TilePlan((height, width), tile, draw(st.integers(2, max(2, 2 * tile // 3))))
    number = draw(st.integers(0, 12))
    corners = torch.tensor(
        draw(st.lists(st.tuples(*[st.integers(0, 1000)] * 4), min_size=number, max_size=number)), dtype=torch.float64
    ).reshape(-1, 4)
    largest = torch.tensor([min(plan.overlap_px - 0.5, width), min(plan.overlap_px - 0.5, height)]).double()
    sizes = 0.5 + corners[:, 2:] / 1000 * (largest - 0.5)
    low = corners[:, :2] / 1000 * (torch.tensor([width, height]) - sizes)
    if draw(st.booleans()) and number:
        low[1:], sizes[1:] = low[:1] + (low[1:] - low[:1]) * 0.05, sizes[:1]  # a heap of one size
        low = torch.minimum(low, torch.tensor([width, height]) - sizes)  # that lies in the image
    boxes = torch.cat([low, low + sizes], dim=1)
    labels = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=number, max_size=number)), dtype=torch.int64)
    return plan, boxes, labels


IDENTICAL = (
    TilePlan((20, 90), 40, 20),
    torch.tensor([[25.0, 2.0, 38.0, 15.0]] * 3 + [[24.0, 2.0, 41.0, 15.0]], dtype=torch.float64),
    torch.zeros(4, dtype=torch.int64),
)


@example(IDENTICAL, "nms", False)
@given(scenes(), st.sampled_from(KINDS), st.booleans())
def test_an_ideal_detector_finds_in_tiles_what_it_finds_in_the_whole_image(scene, kind, agnostic):
    plan, boxes, labels = scene
    seen = seen_in_tiles(plan, boxes, labels)
    merged = merge_views(seen, plan.image_hw, Merging(kind=kind, agnostic=agnostic), tolerance_px=0.0)
    expected, found = rows_of(boxes, labels), rows_of(merged.boxes_xyxy, merged.labels)
    assert len(found) == len(expected)
    if agnostic and kind != "none":  # equal boxes of two classes are told apart by nothing
        expected, found = [row[:4] for row in expected], [row[:4] for row in found]
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), atol=1e-6)


@settings(max_examples=30)
@given(scenes())
def test_several_passes_over_each_tile_change_nothing_for_an_ideal_detector(scene):
    plan, boxes, labels = scene
    once = seen_in_tiles(plan, boxes, labels)
    twice = SeenBoxes(*(torch.cat([getattr(once, name)] * 2) for name in once.__dataclass_fields__))
    twice.views[len(once) :] += len(plan)
    merged = merge_views(twice, plan.image_hw, Merging(kind="fusion"), num_passes=2, tolerance_px=0.0)
    torch.testing.assert_close(
        torch.tensor(rows_of(merged.boxes_xyxy, merged.labels)), torch.tensor(rows_of(boxes, labels)), atol=1e-6, rtol=0
    )
    assert bool((merged.scores == 0.9).all())


def recall_and_doubles(merged, boxes, of):
    """Share of the objects `of` that something found, and how many findings they have beyond one each."""
    close = (merged.boxes_xyxy[:, None] - boxes[None]).abs().amax(-1) <= 3
    found = close.sum(0)[of]
    return (found > 0).double().mean().item(), int((found - 1).clamp(min=0).sum())


def test_a_noisy_detector_loses_and_doubles_nothing_at_seams():
    generator = torch.Generator().manual_seed(3)
    plan = TilePlan((400, 400), 100, 20)
    grid = torch.cartesian_prod(torch.arange(0, 385, 15.0), torch.arange(0, 385, 15.0))
    boxes = torch.cat([grid, grid + 10], dim=1)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    seen = seen_in_tiles(plan, boxes, labels, noise=lambda n: torch.randn(n, 4, generator=generator) * 0.5)
    centers = grid + 5
    distance = torch.stack(
        [(plan.columns.core_borders[1:-1] - centers[:, 0, None].double()).abs().amin(1),
         (plan.rows.core_borders[1:-1] - centers[:, 1, None].double()).abs().amin(1)]
    ).amin(0)  # fmt: skip
    at_seams = distance < 3
    assert at_seams.sum() > 50
    merged = merge_views(seen, plan.image_hw)
    assert recall_and_doubles(merged, boxes, at_seams) == (1.0, 0)
    assert recall_and_doubles(merged, boxes, ~at_seams) == (1.0, 0)
    # Cores alone: some objects at seams are claimed by both tiles, others by neither.
    alone = merge_views(seen, plan.image_hw, Merging(kind="none"))
    recall, doubles = recall_and_doubles(alone, boxes, at_seams)
    assert recall < 1.0 and doubles > 0


def test_tiny_objects_that_are_a_pixel_off_are_one():
    boxes = torch.tensor([[48.0, 5.0, 52.0, 9.0], [49.5, 6.0, 53.5, 10.0]])  # IoU 0.23
    seen = replace(twice_seen([0.6, 0.8]), boxes_xyxy=boxes)
    assert len(merge_views(seen, (20, 100)).scores) == 1
    assert len(merge_views(seen, (20, 100), tolerance_px=0.0).scores) == 2


def test_pieces_of_an_object_larger_than_the_overlap_are_joined():
    plan = TilePlan((40, 100), 60, 20)
    large = torch.tensor([[35.0, 5.0, 64.0, 30.0]])
    seen = seen_in_tiles(plan, large, torch.zeros(1, dtype=torch.int64))
    assert len(seen) == 2 and bool(seen.cut(plan.image_hw).all())
    merged = merge_views(seen, plan.image_hw)
    assert merged.boxes_xyxy.tolist() == large.tolist() and merged.cut.tolist() == [True]


def test_a_piece_goes_where_another_view_has_the_whole_object():
    plan = TilePlan((60, 100), 60, 20)
    large = torch.tensor([[5.0, 5.0, 95.0, 50.0]])
    label = torch.zeros(1, dtype=torch.int64)
    pieces = seen_in_tiles(plan, large, label, least_visible=0.1)
    whole = SeenBoxes(
        large, torch.tensor([0.4]), label, torch.tensor([9]), torch.tensor([[0.0, 0.0, 100.0, 60.0]]),
        torch.tensor([True]),
    )  # fmt: skip
    both = SeenBoxes(*(torch.cat([getattr(pieces, name), getattr(whole, name)]) for name in whole.__dataclass_fields__))
    assert len(merge_views(pieces, plan.image_hw).boxes_xyxy) == 2
    merged = merge_views(both, plan.image_hw)
    assert merged.boxes_xyxy.tolist() == large.tolist() and merged.cut.tolist() == [False]


def twice_seen(scores, shift=1.0, labels=(0, 0)):
    """One object in the middle of the overlap of two tiles, which disagree by `shift` px and both claim it."""
    box = torch.tensor([[45.0, 5.0, 55.0, 15.0]])
    windows = torch.tensor([[0.0, 0.0, 60.0, 20.0], [40.0, 0.0, 100.0, 20.0]])
    boxes = torch.cat([box, box + shift])
    return SeenBoxes(
        boxes, torch.tensor(scores), torch.tensor(labels), torch.tensor([0, 1]), windows, torch.ones(2).bool()
    )


def test_what_becomes_of_two_detections_of_one_object():
    seen, image_hw = twice_seen([0.6, 0.8]), (20, 100)
    hard = merge_views(seen, image_hw)
    assert hard.boxes_xyxy.tolist() == seen.boxes_xyxy[1:].tolist() and hard.scores.tolist() == pytest.approx([0.8])
    fused = merge_views(seen, image_hw, Merging(kind="fusion"))
    middle = (0.6 * seen.boxes_xyxy[0] + 0.8 * seen.boxes_xyxy[1]) / 1.4
    torch.testing.assert_close(fused.boxes_xyxy[0], middle)
    assert fused.scores.tolist() == pytest.approx([0.7])
    soft = merge_views(seen, image_hw, Merging(kind="soft"))
    assert soft.scores[0].item() == pytest.approx(0.8) and 0 < soft.scores[1] < 0.3
    assert len(merge_views(seen, image_hw, Merging(kind="none")).scores) == 2


def test_classes_are_apart_unless_asked():
    seen = twice_seen([0.6, 0.8], labels=(0, 1))
    assert len(merge_views(seen, (20, 100)).scores) == 2
    assert merge_views(seen, (20, 100), Merging(agnostic=True)).labels.tolist() == [1]


def test_fusion_lowers_the_score_of_what_one_of_two_passes_found():
    seen = twice_seen([0.6, 0.8])[torch.tensor([0])]
    merged = merge_views(seen, (20, 100), Merging(kind="fusion"), num_passes=2)
    assert merged.scores.tolist() == pytest.approx([0.3])


def test_fusion_does_not_take_a_second_tile_for_a_second_pass():
    merged = merge_views(twice_seen([0.6, 0.8]), (20, 100), Merging(kind="fusion"), num_passes=2)
    assert merged.scores.tolist() == pytest.approx([0.35])  # of four looks, two found it


def test_nothing_seen_is_nothing_found():
    nothing = twice_seen([0.6, 0.8])[torch.zeros(0, dtype=torch.int64)]
    for kind in KINDS:
        assert len(merge_views(nothing, (20, 100), Merging(kind=kind)).scores) == 0


def test_an_iou_that_merges_everything_is_refused():
    with pytest.raises(ValueError, match="expected an IoU in"):
        Merging(iou=0.0)


@given(st.integers(0, 30), st.integers(0, 2**16), st.sampled_from([0.0, 0.3]))
def test_pairs_are_those_of_the_whole_table(number, seed, least):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(number, 2, generator=generator) * 50
    boxes = torch.cat([low, low + torch.rand(number, 2, generator=generator) * 30], dim=1)
    groups = torch.randint(0, 2, (number,), generator=generator)
    table = pairwise_iou(boxes, boxes)
    alike = ((table >= least) & (table > 0) & (groups[:, None] == groups[None])).triu(1)
    pairs = overlapping_pairs(boxes, groups, least, extent_px=100.0)
    found = sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert found == [tuple(row) for row in alike.nonzero().tolist()]
