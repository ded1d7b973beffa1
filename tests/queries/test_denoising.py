"""Denoising queries against walking over images, groups and objects one by one, and in the words of the papers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.boxes import aligned_iou, cxcywh_to_xyxy, inverse_sigmoid
from smidgen.queries.denoising import (
    ContrastiveDenoising,
    Denoising,
    DenoisingNoise,
    FixedGroups,
    GroupsThatFit,
    OfficialGroups,
)
from smidgen.structures import Queries, QueryGroup, Target

NUM_CLASSES, WIDTH, NUM_MATCHING = 5, 8, 6
object_counts = st.lists(st.integers(0, 7), min_size=1, max_size=3)


def _targets(counts, generator=None):
    return [_target(count, generator) for count in counts]


def _target(count, generator=None):
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([70.0, 50.0]) + 5
    sides = torch.rand(count, 2, generator=generator) * 20 + 2
    labels = torch.randint(0, NUM_CLASSES, (count,), generator=generator)
    return Target.of(torch.cat([corners, corners + sides], dim=1), labels, (80, 100))


def _mask(queries):
    batch = queries.content.shape[0]
    matching = Queries(
        torch.zeros(batch, NUM_MATCHING, WIDTH),
        torch.zeros(batch, NUM_MATCHING, 4),
        groups=(QueryGroup("matching", NUM_MATCHING),),
    )
    return Queries.join([queries, matching]).attention_mask()


def _slow_box(box, noise, row, negative, scale):
    """One object: each side of its box moves in half sizes, one more for a negative."""
    cx, cy, w, h = box.tolist()
    sides = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
    moved = []
    for coordinate, (side, half) in enumerate(zip(sides, [w / 2, h / 2, w / 2, h / 2], strict=True)):
        sign = 1 if noise.direction[row, coordinate] == 1 else -1
        moved.append(min(max(side + sign * (noise.amount[row, coordinate].item() + negative) * half * scale, 0), 1))
    left, top, right, bottom = moved
    return torch.tensor([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])


def _slow_contrastive(part, targets, groups, noise):
    """Content, reference, padding and matches, by walking over copies, images and objects."""
    most = max(len(target) for target in targets)
    content = torch.zeros(len(targets), 2 * groups * most, WIDTH)
    reference = torch.full((len(targets), 2 * groups * most, 4), 0.5)
    padding = torch.ones(len(targets), 2 * groups * most, dtype=torch.bool)
    matches, row = set(), 0
    for copy in range(2 * groups):
        for image, target in enumerate(targets):
            for index, (box, label) in enumerate(zip(target.boxes_cxcywh, target.labels, strict=True)):
                query = copy * most + index
                said = noise.labels[row] if noise.flip[row] < part.flip_probability else label
                content[image, query] = part.label_encoder.weight[said]
                moved = _slow_box(box, noise, row, copy % 2, part.box_noise)
                reference[image, query] = inverse_sigmoid(moved, part.eps).sigmoid()
                padding[image, query] = False
                if copy % 2 == 0:
                    matches.add((image, query, index))
                row += 1
    return content, reference, padding, matches


def _pairs(matches):
    return set(zip(matches.image.tolist(), matches.query.tolist(), matches.target.tolist(), strict=True))


@settings(max_examples=30, deadline=None)
@given(object_counts, st.integers(1, 12), st.sampled_from([0.4, 1.0]), st.integers(0, 10_000))
def test_all_at_once_is_one_by_one(counts, num_queries, box_noise, seed):
    torch.manual_seed(seed)
    targets = _targets(counts)
    part = ContrastiveDenoising(NUM_CLASSES, WIDTH, num_queries, box_noise=box_noise)
    groups = GroupsThatFit(num_queries)(max(counts))
    noise = DenoisingNoise.draw(2 * groups * sum(counts), NUM_CLASSES)
    queries = part(targets, noise)
    content, reference, padding, matches = _slow_contrastive(part, targets, groups, noise)
    assert torch.equal(queries.content, content) and torch.equal(queries.padding, padding)
    torch.testing.assert_close(queries.reference, reference, atol=1e-6, rtol=0)
    assert queries.groups[0].span == queries.content.shape[1] and queries.groups[0].repeats == groups
    assert _pairs(queries.groups[0].known_matches) == matches


@settings(max_examples=20, deadline=None)
@given(object_counts.filter(any), st.integers(1, 12))
def test_groups_are_isolated_and_matching_queries_see_no_object(counts, num_queries):
    queries = ContrastiveDenoising(NUM_CLASSES, WIDTH, num_queries)(_targets(counts))
    size, span = queries.groups[0].size, queries.groups[0].span
    blocked = _mask(queries)
    for row in range(span + NUM_MATCHING):
        for column in range(span + NUM_MATCHING):
            of_row = row // size if row < span else "matching"
            of_column = column // size if column < span else "matching"
            leak = of_row == "matching" and of_column != "matching"
            other_group = "matching" not in (of_row, of_column) and of_row != of_column
            assert blocked[row, column].item() == (leak or other_group)


def test_a_positive_is_nearer_to_its_object_than_its_negative():
    torch.manual_seed(0)
    target = _target(40)
    queries = ContrastiveDenoising(NUM_CLASSES, WIDTH, num_queries=40, box_noise=0.5, eps=1e-6)([target])
    boxes, objects = cxcywh_to_xyxy(queries.reference[0]), cxcywh_to_xyxy(target.boxes_cxcywh)
    half_size = target.boxes_cxcywh[:, 2:].repeat(1, 2) / 2
    positive = ((boxes[:40] - objects).abs() / half_size).amax(-1)
    negative = ((boxes[40:] - objects).abs() / half_size).amin(-1)
    assert positive.max() <= 0.5 + 1e-3 and negative.min() >= 0.5 - 1e-3
    assert aligned_iou(boxes[:40], objects).mean() > 2 * aligned_iou(boxes[40:], objects).mean()


def test_half_of_label_noise_of_the_labels_are_replaced_by_any_class():
    torch.manual_seed(1)
    part = ContrastiveDenoising(NUM_CLASSES, 1, num_queries=4000, label_noise=0.5)
    part.label_encoder.weight.data.copy_(torch.arange(NUM_CLASSES)[:, None].float())
    said = part([Target.of(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([2]), (10, 10))]).content.flatten()
    assert (said != 2).float().mean().item() == pytest.approx(0.25 * (1 - 1 / NUM_CLASSES), abs=0.03)
    assert set(said.tolist()) == set(range(NUM_CLASSES))


@pytest.mark.parametrize("part", [ContrastiveDenoising(NUM_CLASSES, WIDTH), Denoising(NUM_CLASSES, WIDTH)])
def test_without_objects_there_are_no_rows_but_the_label_table_has_a_gradient(part):
    queries = part(_targets([0, 0]))
    assert queries.content.shape == (2, 0, WIDTH) and queries.reference.shape == (2, 0, 4)
    assert len(queries.groups[0].known_matches) == 0 and queries.groups[0].span == 0
    matching = Queries(torch.zeros(2, 3, WIDTH), torch.zeros(2, 3, 4), groups=(QueryGroup("matching", 3),))
    joined = Queries.join([queries, matching])
    assert not joined.attention_mask().any()
    joined.content.sum().backward()
    assert torch.equal(part.label_encoder.weight.grad, torch.zeros_like(part.label_encoder.weight))


def test_the_label_table_learns_from_objects_and_references_do_not():
    part = ContrastiveDenoising(NUM_CLASSES, WIDTH)
    queries = part(_targets([2]))
    assert not queries.reference.requires_grad
    queries.content.sum().backward()
    assert part.label_encoder.weight.grad.abs().sum() > 0


def test_a_crowd_is_sampled_down_to_max_objects():
    torch.manual_seed(2)
    targets = _targets([50, 3])
    queries = ContrastiveDenoising(NUM_CLASSES, WIDTH, max_objects=20)(targets)
    matches = queries.groups[0].known_matches
    assert queries.groups[0].size == 40 and queries.groups[0].repeats == 5
    drawn = matches.target[matches.image == 0].reshape(5, 20)
    assert all(len(set(group.tolist())) == 20 for group in drawn) and drawn.max() >= 20
    box = cxcywh_to_xyxy(queries.reference[matches.image, matches.query])
    truth = torch.stack([targets[i].boxes_cxcywh[t] for i, t in zip(matches.image, matches.target, strict=True)])
    assert bool(((box - cxcywh_to_xyxy(truth)).abs() <= truth[:, 2:].repeat(1, 2) / 2 + 2e-3).all())


def test_official_options_keep_every_object_and_leave_free_slots_unmasked():
    part = ContrastiveDenoising(NUM_CLASSES, WIDTH, groups="official", max_objects=None, mask_free_slots=False)
    queries = part(_targets([600, 1]))
    assert queries.content.shape[1] == 1200 and queries.padding is None
    assert not queries.content[1, 1:600].any() and bool((queries.reference[1, 1:600] == 0.5).all())


@pytest.mark.parametrize(
    ("rule", "objects", "groups"),
    [
        (GroupsThatFit(100), 5, 20),
        (GroupsThatFit(100), 60, 1),
        (GroupsThatFit(100), 130, 1),
        (GroupsThatFit(10), 4, 2),
        (GroupsThatFit(100), 0, 1),
        (OfficialGroups(100), 5, 20),
        (OfficialGroups(100), 130, 1),
        (OfficialGroups(100), 0, 1),
        (OfficialGroups(10), 4, 20),
        (FixedGroups(5), 130, 5),
    ],
)
def test_number_of_groups(rule, objects, groups):
    assert rule(objects) == groups


def test_dn_detr_repeats_every_object_and_says_so_in_the_indicator_column():
    torch.manual_seed(3)
    targets = _targets([4, 2])
    part = Denoising(NUM_CLASSES, WIDTH, groups=3)
    queries = part(targets)
    assert part.label_encoder.weight.shape == (NUM_CLASSES, WIDTH - 1)
    assert queries.groups[0].size == 4 and queries.groups[0].repeats == 3
    assert torch.equal(queries.content[..., -1] == 1, ~queries.padding)
    expected = {(i, g * 4 + t, t) for g in range(3) for i, count in enumerate((4, 2)) for t in range(count)}
    assert _pairs(queries.groups[0].known_matches) == expected


def test_dn_detr_moves_the_center_within_the_box_and_scales_its_size():
    torch.manual_seed(4)
    target = _target(60)
    reference = Denoising(NUM_CLASSES, WIDTH, groups=1, eps=1e-6)([target]).reference[0]
    change = (reference - target.boxes_cxcywh) / target.boxes_cxcywh[:, 2:].repeat(1, 2)
    assert change[:, :2].abs().max() <= 0.2 + 1e-3 and 0.2 < change[:, 2:].abs().max() <= 0.4 + 1e-3


def test_recorded_classes_fall_on_the_labels_that_are_replaced():
    flip = torch.tensor([0.1, 0.9, 0.2, 0.3])
    noise = DenoisingNoise.recorded(flip, torch.tensor([3, 4]), torch.zeros(4, 4), torch.zeros(4, 4), 0.25)
    assert noise.labels.tolist() == [3, 0, 4, 0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="noise for 20"):
        ContrastiveDenoising(NUM_CLASSES, WIDTH, 10)(_targets([1]), DenoisingNoise.draw(3, NUM_CLASSES))
    with pytest.raises(ValueError, match="at least num_classes = 5"):
        ContrastiveDenoising(NUM_CLASSES, WIDTH, table_size=4)
