"""Criteria of dense heads: what counts, how levels weigh, and that the right answers cost nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smidgen.assignment.anchor_overlap import AnchorOverlap
from smidgen.assignment.center_sampling import CenterSampling
from smidgen.boxes.anchors import AnchorShapes, cell_centers
from smidgen.boxes.box_coding import encode_deltas, encode_distances
from smidgen.losses.dense_loss import AnchorLoss, PointLoss, centerness_of, giou_of_deltas
from smidgen.losses.positive_count import RunningPositiveCount, counted_count, positive_count
from smidgen.structures import Cells, DenseOutput, LevelAnswers, Target

STRIDES, CLASSES = (8, 16), 3
SHAPES = ((8, 8), (4, 4))
ANCHORS = AnchorShapes(((16.0,), (32.0,)))
CENTERS = CenterSampling(limits_px=(16.0, math.inf))
OBJECTS = Target.of(torch.tensor([[4.0, 4, 20, 20], [14.0, 14, 50, 50]]), torch.tensor([2, 0]), (64, 64))
EMPTY = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (64, 64))


def random_output(batch: int, answers: int = 3, centerness: bool = False) -> DenseOutput:
    levels = []
    for rows, columns in SHAPES:
        count = batch * rows * columns
        levels.append(
            LevelAnswers(
                torch.randn(count, answers, CLASSES),
                torch.randn(count, answers, 4).abs(),
                torch.randn(count, answers) if centerness else None,
                (rows, columns),
                batch,
            )
        )
    return DenseOutput(tuple(levels), STRIDES, (64, 64), ((64, 64),) * batch)


def with_parts(output: DenseOutput, logits: Tensor, regression: Tensor) -> DenseOutput:
    """An output of one image with these answers, levels one after the other."""
    sizes = [level.logits.shape[0] * level.logits.shape[1] for level in output.levels]
    levels = [
        replace(level, logits=some.view_as(level.logits), regression=other.view_as(level.regression))
        for level, some, other in zip(output.levels, logits.split(sizes), regression.split(sizes), strict=True)
    ]
    return replace(output, levels=tuple(levels))


def images(output: DenseOutput, which: int) -> DenseOutput:
    """One image of a batch."""
    levels = []
    for level in output.levels:
        rows = slice(which * level.shape[0] * level.shape[1], (which + 1) * level.shape[0] * level.shape[1])
        centerness = None if level.centerness is None else level.centerness[rows]
        levels.append(
            replace(level, logits=level.logits[rows], regression=level.regression[rows], centerness=centerness, batch=1)
        )
    return replace(output, levels=tuple(levels), sizes_hw=output.sizes_hw[:1])


def anchor_loss(**options: object) -> AnchorLoss:
    return AnchorLoss(ANCHORS, AnchorOverlap(), positive_count, **options)  # type: ignore[arg-type]


def test_right_answers_cost_almost_nothing_and_wrong_ones_much() -> None:
    criterion, output = anchor_loss(), random_output(1)
    labels = criterion.matches(output, [OBJECTS]).labels([OBJECTS], CLASSES)[0]
    logits = torch.where(labels[:, None] == torch.arange(CLASSES), 20.0, -20.0)
    matches = criterion.matches(output, [OBJECTS]).target[0].clamp(min=0)
    anchors = torch.cat(
        [ANCHORS.of_level(level, SHAPES[level], STRIDES[level]).flatten(0, 1) for level in range(len(SHAPES))]
    )
    deltas = encode_deltas(anchors, OBJECTS.boxes_xyxy[matches])
    right = criterion(with_parts(output, logits, deltas), [OBJECTS], 0.0)
    assert max(value.item() for value in right.values()) < 1e-5
    wrong = criterion(with_parts(output, -logits, deltas + 1), [OBJECTS], 0.0)
    assert wrong["classification"] > 10
    assert wrong["box"].item() == pytest.approx(4 * 0.95, rel=1e-4), "1 beyond beta 0.1 costs 1 - 0.05 a coordinate"


def test_anchors_left_out_change_nothing() -> None:
    criterion, output = anchor_loss(), random_output(1)
    matches = criterion.matches(output, [OBJECTS])
    assert (~matches.counted).any()
    logits = torch.cat([level.logits.flatten(0, 1) for level in output.levels])
    regression = torch.cat([level.regression.flatten(0, 1) for level in output.levels])
    changed = with_parts(output, torch.where(matches.counted[0, :, None], logits, logits + 5), regression)
    assert criterion(changed, [OBJECTS], 0.0) == criterion(output, [OBJECTS], 0.0)


def test_each_level_weighs_what_it_is_given() -> None:
    output = random_output(1)
    first, second, both = (
        anchor_loss(level_weights=weights)(output, [OBJECTS], 0.0) for weights in ((1, 0), (0, 1), (2, 3))
    )
    for name in ("classification", "box"):
        assert first[name] > 0
        assert second[name] > 0
        torch.testing.assert_close(both[name], 2 * first[name] + 3 * second[name])


@pytest.mark.parametrize("family", ["anchors", "points"])
def test_a_batch_sums_up_what_its_images_say(family: str) -> None:
    """With one common normalizer, an image without objects beside one with objects."""
    fixed = lambda matches: torch.tensor(7.0)  # noqa: E731
    criterion: AnchorLoss | PointLoss
    if family == "anchors":
        criterion, output = AnchorLoss(ANCHORS, AnchorOverlap(), fixed), random_output(2)
    else:
        criterion, output = PointLoss(CENTERS, fixed), random_output(2, 1, centerness=True)
    together = criterion(output, [OBJECTS, EMPTY], 0.0)
    first, second = (criterion(images(output, index), [target], 0.0) for index, target in enumerate((OBJECTS, EMPTY)))
    for name, value in together.items():
        torch.testing.assert_close(value, first[name] + second[name])


@pytest.mark.parametrize("family", ["anchors", "points"])
def test_a_batch_without_objects_has_gradients_everywhere(family: str) -> None:
    anchors = family == "anchors"
    criterion: AnchorLoss | PointLoss = anchor_loss() if anchors else PointLoss(CENTERS, positive_count)
    output = random_output(1, 3 if anchors else 1, centerness=not anchors)
    for level in output.levels:
        level.logits.requires_grad_()
        level.regression.requires_grad_()
    losses = criterion(output, [EMPTY], 0.0)
    sum(losses.values(), torch.zeros(())).backward()
    assert losses["box"] == 0
    for level in output.levels:
        assert level.logits.grad is not None and level.logits.grad.abs().min() > 0
        assert level.regression.grad is not None and level.regression.grad.abs().max() == 0


def test_the_running_count_moves_in_training_only() -> None:
    criterion, output = AnchorLoss(ANCHORS, AnchorOverlap(), RunningPositiveCount()), random_output(1)
    before = criterion.eval()(output, [OBJECTS], 0.0)
    assert criterion(output, [OBJECTS], 0.0) == before
    assert criterion.train()(output, [OBJECTS], 0.0)["classification"] != before["classification"]
    assert "normalizer.count" in criterion.state_dict()


def test_giou_in_place_of_smooth_l1() -> None:
    criterion, output = anchor_loss(box_loss=giou_of_deltas), random_output(1)
    value = criterion(output, [OBJECTS], 0.0)["box"]
    assert 0 < value <= 2, "1 - GIoU averaged over positives"


def test_a_region_proposal_network_is_judged_by_cross_entropy_over_what_was_sampled() -> None:
    cross_entropy = partial(F.binary_cross_entropy_with_logits, reduction="none")
    criterion = AnchorLoss(ANCHORS, AnchorOverlap(), counted_count, class_loss=cross_entropy)
    output = random_output(1)
    undecided = with_parts(output, torch.zeros(240, CLASSES), torch.zeros(240, 4))
    value = criterion(undecided, [EMPTY], 0.0)["classification"].item()
    assert value == pytest.approx(CLASSES * math.log(2), rel=1e-5)


def test_further_terms_are_weighted_and_added() -> None:
    criterion = anchor_loss(terms=[(3.0, lambda output, targets, progress: {"extra": torch.tensor(progress)})])
    assert criterion(random_output(1), [OBJECTS], 0.5)["extra"] == 1.5


def test_points_that_answer_rightly_cost_almost_nothing() -> None:
    criterion, output = PointLoss(CENTERS, positive_count), random_output(1, 1, centerness=True)
    matches = criterion.matches(output, [OBJECTS])
    labels = matches.labels([OBJECTS], CLASSES)[0]
    logits = torch.where(labels[:, None] == torch.arange(CLASSES), 20.0, -20.0)
    points = torch.cat([cell_centers(shape, stride) for shape, stride in zip(SHAPES, STRIDES, strict=True)])
    distances = encode_distances(points, OBJECTS.boxes_xyxy[matches.target[0].clamp(min=0)])
    losses = criterion(with_parts(output, logits, distances), [OBJECTS], 0.0)
    assert losses["classification"] < 1e-5
    assert losses["box"] < 1e-5
    worse = criterion(with_parts(output, logits, distances * 2), [OBJECTS], 0.0)
    assert worse["box"].item() == pytest.approx(0.75, rel=1e-2), "twice the sides around about the same center"


def test_centerness_is_one_at_the_center_and_zero_at_the_sides() -> None:
    distances = torch.tensor([[4.0, 2, 4, 2], [1.0, 2, 4, 2], [0.0, 1, 1, 1]])
    torch.testing.assert_close(centerness_of(distances), torch.tensor([1.0, 0.5, 0.0]))


def test_answers_of_chosen_cells_cannot_be_trained_on() -> None:
    output = random_output(1)
    sparse = replace(output.levels[0], cells=Cells.all_of(1, SHAPES[0]))
    with pytest.raises(ValueError, match="expected answers of all cells"):
        anchor_loss()(replace(output, levels=(sparse, output.levels[1])), [OBJECTS], 0.0)


def test_what_does_not_fit_together_is_named() -> None:
    output = random_output(1)
    with pytest.raises(ValueError, match="one weight for each of 2 levels"):
        anchor_loss(level_weights=(1.0,))(output, [OBJECTS], 0.0)
    with pytest.raises(ValueError, match="expected answers of 2 levels"):
        anchor_loss()(replace(output, levels=output.levels[:1]), [OBJECTS], 0.0)
    with pytest.raises(ValueError, match="with centerness"):
        PointLoss(CENTERS, positive_count)(random_output(1, 1), [OBJECTS], 0.0)
