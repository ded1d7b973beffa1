"""PaQ-DETR's assignment against a slow, obvious reading of its rules, and what the rules promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.structures import Predictions, Target

NUM_CLASSES = 3


def _order(quality, iou, target, queries):
    """Of an object's queries the best first: by quality, then IoU, then index."""
    return sorted(queries, key=lambda query: (-quality[query][target], -iou[query][target], query))


def _slow_positives(rule, score_sum, num_queries):
    expected = score_sum / rule.quality_per_positive
    rounded = math.floor(expected + 0.5 + 1e-6) if rule.count_rule == "article" else math.ceil(expected - 1e-6)
    return min(rule.num_candidates, num_queries, max(rule.min_positives, rounded))


def _slow_winner(quality, iou, query, claimants):
    return min(claimants, key=lambda target: (-quality[query][target], -iou[query][target], target))


def _slow_guarantee(owner, quality, iou, num_objects):
    for target in range(num_objects):
        if target in owner:
            continue
        free = [query for query in range(len(owner)) if owner[query] == -1]
        spare = [query for query in range(len(owner)) if owner.count(owner[query]) >= 2]
        for choices in (free, spare):
            if choices:
                owner[_order(quality, iou, target, choices)[0]] = target
                break
    return owner


def _slow_owners(rule, iou, confidence, one_to_one=()):
    """The rules one after the other, with plain loops."""
    num_queries, num_objects = iou.shape
    if rule.quality == "product":
        quality = [[i * (1 - c) for i, c in zip(*rows, strict=True)] for rows in zip(iou, confidence, strict=True)]
    else:
        weight = rule.confidence_weight
        quality = [[i - weight * c for i, c in zip(*rows, strict=True)] for rows in zip(iou, confidence, strict=True)]
    claims = [[] for _ in range(num_queries)]
    for target in range(num_objects):
        eligible = [query for query in range(num_queries) if iou[query][target] >= rule.iou_min]
        best = _order(quality, iou, target, eligible)[: rule.num_candidates]
        score_sum = sum(quality[query][target] for query in best)
        for query in best[: _slow_positives(rule, score_sum, num_queries)]:
            claims[query].append(target)
    owner = [_slow_winner(quality, iou, query, some) if some else -1 for query, some in enumerate(claims)]
    for query, target in one_to_one:
        owner[query] = target
    return _slow_guarantee(owner, quality, iou, num_objects)


rules = st.builds(
    QualityOneToMany,
    confidence_weight=st.sampled_from([0.0, 0.4, 1.0]),
    num_candidates=st.integers(1, 6),
    min_positives=st.integers(0, 3),
    quality_per_positive=st.sampled_from([0.5, 1.0, 1.7]),
    count_rule=st.sampled_from(["article", "paper"]),
    quality=st.sampled_from(["difference", "product"]),
    iou_min=st.sampled_from([0.0, 0.3]),
)


@st.composite
def _figures(draw):
    """IoU and confidence of up to 12 x 7 pairs; in steps of a quarter, so that ties are common, or smooth."""
    shape = draw(st.integers(0, 12)), draw(st.integers(0, 7))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    iou, confidence = generator.random((2, *shape))
    steps = draw(st.sampled_from([4, 1000]))
    empty = draw(st.booleans())
    return np.where(empty & (iou < 0.5), 0.0, np.floor(iou * steps) / steps), np.floor(confidence * steps) / steps


@given(rules, _figures())
def test_owners_are_those_of_the_rules_read_slowly(rule, figures):
    assert rule.decide(*figures).owner.tolist() == _slow_owners(rule, *figures)


@given(_figures(), st.integers(0, 10_000))
def test_one_to_one_pairs_overwrite_and_the_guarantee_comes_after(figures, seed):
    cost = np.random.default_rng(seed).random(figures[0].shape)
    pairs = linear_sum_assignment(cost)
    rule = QualityOneToMany(union_one_to_one=True, costs=HungarianAssignment().costs)
    expected = _slow_owners(rule, *figures, list(zip(*pairs, strict=True)))
    assert rule.decide(*figures, one_to_one=pairs).owner.tolist() == expected


@given(rules, _figures())
def test_each_object_owns_a_query_if_there_are_as_many_queries(rule, figures):
    owner = rule.decide(*figures).owner
    num_queries, num_objects = figures[0].shape
    owned = set(owner[owner >= 0].tolist())
    assert len(owned) == min(num_queries, num_objects)


@given(_figures())
def test_with_one_candidate_and_no_confidence_each_object_has_one_positive(figures):
    rule = QualityOneToMany(num_candidates=1, min_positives=1, confidence_weight=0.0)
    owner = rule.decide(*figures).owner
    counts = np.bincount(owner[owner >= 0], minlength=figures[0].shape[1])
    assert counts.max(initial=0) <= 1 and counts.sum() == min(figures[0].shape)


@given(rules, st.integers(0, 10_000))
def test_permuting_queries_permutes_owners(rule, seed):
    generator = np.random.default_rng(seed)
    iou, confidence = generator.random((2, 11, 4))
    permutation = generator.permutation(11)
    permuted = rule.decide(iou[permutation], confidence[permutation]).owner
    assert permuted.tolist() == rule.decide(iou, confidence).owner[permutation].tolist()


def _worked_example():
    """The article's: objects 0 and 1, eight queries."""
    iou = [[0.90, 0], [0.85, 0], [0.70, 0.05], [0.10, 0.60], [0, 0.75], [0.05, 0.55], [0, 0], [0.02, 0.01]]
    confidence = [[0.8, 0.1], [0.1, 0.1], [0.2, 0], [0.1, 0.3], [0, 0.9], [0.1, 0.05], [0.02, 0.03], [0.6, 0.6]]
    return np.array(iou), np.array(confidence)


def test_the_worked_example_of_the_article():
    found = QualityOneToMany().decide(*_worked_example())
    assert found.quality[:, 0] == pytest.approx([0.58, 0.81, 0.62, 0.06, 0, 0.01, -0.008, -0.22])
    assert found.score_sum == pytest.approx([2.07, 1.45])  # of the four best qualities
    assert found.positives.tolist() == [2, 1]  # rounded
    # The confident query 0 ranks third although its IoU of 0.90 is the greatest.
    assert np.flatnonzero(found.owner == 0).tolist() == [1, 2]
    assert np.flatnonzero(found.owner == 1).tolist() == [5]


def test_the_worked_example_as_the_paper_counts():
    found = QualityOneToMany(count_rule="paper").decide(*_worked_example())
    assert found.positives.tolist() == [3, 2]  # rounded up
    assert np.flatnonzero(found.owner == 0).tolist() == [0, 1, 2]
    assert np.flatnonzero(found.owner == 1).tolist() == [3, 5]


def test_a_background_query_outranks_a_confident_poor_box_unless_candidates_must_overlap():
    iou, confidence = np.array([[0.3], [0.0]]), np.array([[0.9], [0.0]])
    assert QualityOneToMany().decide(iou, confidence).owner.tolist() == [-1, 0]
    assert QualityOneToMany(iou_min=0.1).decide(iou, confidence).owner.tolist() == [0, -1]


@pytest.mark.parametrize("num_queries", [6, 12, 40])
def test_copies_share_at_most_half_the_queries_and_follow_the_cost_alone(num_queries):
    generator = np.random.default_rng(num_queries)
    iou, confidence, cost = generator.random((3, num_queries, 3))
    rule = QualityOneToMany(select="hungarian_copies", costs=HungarianAssignment().costs)
    found = rule.decide(iou, confidence, cost=cost)
    counts = np.bincount(found.owner[found.owner >= 0], minlength=3)
    assert counts.tolist() == found.positives.tolist()
    assert counts.sum() <= num_queries // 2
    best = linear_sum_assignment(np.repeat(cost, counts, axis=1))
    total = np.repeat(cost, counts, axis=1)[best].sum()
    assert sum(cost[query, target] for query, target in enumerate(found.owner) if target >= 0) == pytest.approx(total)


def _target(num_objects, generator):
    sides = torch.rand(num_objects, 2, generator=generator) * 20 + 5
    corners = torch.rand(num_objects, 2, generator=generator) * 60
    labels = torch.randint(0, NUM_CLASSES, (num_objects,), generator=generator)
    return Target.of(torch.cat([corners, corners + sides], dim=1), labels, (80, 100))


def _near(targets, num_queries, generator, padding=None):
    """Predictions around the objects of their image."""
    boxes = torch.rand(len(targets), num_queries, 4, generator=generator) * 0.5 + 0.1
    for image, target in enumerate(targets):
        if len(target):
            around = target.boxes_cxcywh[torch.arange(num_queries) % len(target)]
            boxes[image] = around * (1 + 0.1 * torch.rand(num_queries, 4, generator=generator))
    return Predictions(torch.randn(len(targets), num_queries, NUM_CLASSES, generator=generator), boxes, padding)


def _batch(counts=(4, 0, 7), num_queries=20, padding=None):
    generator = torch.Generator().manual_seed(1)
    targets = [_target(count, generator) for count in counts]
    return _near(targets, num_queries, generator, padding), targets


def _slow_iou(box, other):
    (ax, ay, aw, ah), (bx, by, bw, bh) = box, other
    width = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
    height = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
    intersection = max(width, 0) * max(height, 0)
    return intersection / (aw * ah + bw * bh - intersection)


def _slow_figures(predictions, image, target, confidence):
    scores = predictions.logits[image].sigmoid()
    boxes, objects = predictions.boxes_cxcywh[image].tolist(), target.boxes_cxcywh.tolist()
    iou = [[_slow_iou(box, other) for other in objects] for box in boxes]
    if confidence == "max":
        score = [[max(row)] * len(objects) for row in scores.tolist()]
    else:
        score = [[row[label] for label in target.labels.tolist()] for row in scores.tolist()]
    shape = (len(boxes), len(objects))
    return np.array(iou).reshape(shape), np.array(score).reshape(shape)


def _triples(matches):
    return list(zip(matches.image.tolist(), matches.query.tolist(), matches.target.tolist(), strict=True))


@pytest.mark.parametrize("confidence", ["target", "max"])
def test_matches_follow_from_boxes_and_scores(confidence):
    predictions, targets = _batch()
    rule = QualityOneToMany(confidence=confidence)
    expected = [
        (image, query, owner)
        for image, target in enumerate(targets)
        for query, owner in enumerate(_slow_owners(rule, *_slow_figures(predictions, image, target, confidence)))
        if owner >= 0
    ]
    found = rule(predictions, targets)
    assert _triples(found) == expected
    assert len(expected) > sum(map(len, targets)), "some object has several"
    assert not found.query.requires_grad and found.query.dtype == torch.int64


def test_one_to_one_pairs_are_among_the_matches_of_their_union():
    predictions, targets = _batch()
    hungarian = HungarianAssignment()
    rule = QualityOneToMany(union_one_to_one=True, costs=hungarian.costs, confidence_weight=2.0)
    pairs, union = set(_triples(hungarian(predictions, targets))), set(_triples(rule(predictions, targets)))
    assert pairs <= union
    assert not pairs <= set(_triples(QualityOneToMany(confidence_weight=2.0)(predictions, targets)))


def test_one_copy_each_is_the_one_to_one_matching():
    predictions, targets = _batch()
    hungarian = HungarianAssignment()
    rule = QualityOneToMany(select="hungarian_copies", costs=hungarian.costs, num_candidates=1)
    assert _triples(rule(predictions, targets)) == _triples(hungarian(predictions, targets))


def test_batch_mates_do_not_change_an_assignment():
    predictions, targets = _batch()
    together = _triples(QualityOneToMany()(predictions, targets))
    for image, target in enumerate(targets):
        alone = Predictions(predictions.logits[image, None], predictions.boxes_cxcywh[image, None])
        found = _triples(QualityOneToMany()(alone, [target]))
        assert [(image, query, owner) for _, query, owner in found] == [row for row in together if row[0] == image]


def test_padded_queries_own_nothing_even_if_they_are_perfect_or_not_finite():
    padding = torch.zeros(1, 6, dtype=torch.bool)
    padding[0, :2] = True
    predictions, targets = _batch((2,), 6, padding)
    predictions.boxes_cxcywh[0, 0] = targets[0].boxes_cxcywh[0]
    predictions.logits[0, 1] = float("nan")
    compact = Predictions(predictions.logits[:, 2:], predictions.boxes_cxcywh[:, 2:])
    expected = [(0, query + 2, owner) for _, query, owner in _triples(QualityOneToMany()(compact, targets))]
    assert _triples(QualityOneToMany()(predictions, targets)) == expected != []


@pytest.mark.parametrize("counts, num_queries", [((0, 0), 5), ((3,), 0)])
def test_without_objects_or_queries_there_are_no_matches(counts, num_queries):
    generator = torch.Generator().manual_seed(2)
    targets = [_target(count, generator) for count in counts]
    assert len(QualityOneToMany()(_near(targets, num_queries, generator), targets)) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_refused_with_their_image(value):
    predictions, targets = _batch()
    predictions.boxes_cxcywh[2, 3, 1] = value
    with pytest.raises(ValueError, match=r"images \[2\]"):
        QualityOneToMany()(predictions, targets)


def test_bfloat16_predictions_match_as_their_float32_values():
    predictions, targets = _batch()
    half = Predictions(predictions.logits.bfloat16(), predictions.boxes_cxcywh.bfloat16())
    exact = Predictions(half.logits.float(), half.boxes_cxcywh.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _triples(QualityOneToMany()(half, targets))
    assert found == _triples(QualityOneToMany()(exact, targets))


def test_one_target_per_image_is_asked_for():
    predictions, targets = _batch()
    with pytest.raises(ValueError, match=r"one target per image.*got 2"):
        QualityOneToMany()(predictions, targets[:2])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_candidates": 0}, "num_candidates >= 1"),
        ({"quality_per_positive": 0.0}, "quality_per_positive > 0"),
        ({"union_one_to_one": True}, "expected costs"),
        ({"select": "hungarian_copies"}, "expected costs"),
        ({"select": "hungarian_copies", "union_one_to_one": True, "costs": HungarianAssignment().costs}, "topq"),
    ],
)
def test_settings_that_make_no_rule_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        QualityOneToMany(**settings)
