"""What salience maps are taught."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.losses.salience import SalienceLoss, level_targets
from smidgen.structures import DetectorOutput, Predictions, Target
from smidgen.tokens.salience_filtering import SalienceMaps

CANVAS = (64, 96)


def maps(batch: int = 1) -> SalienceMaps:
    return SalienceMaps((torch.zeros(batch, 8, 12), torch.zeros(batch, 4, 6)), (), CANVAS)


def output(evidence: SalienceMaps) -> DetectorOutput:
    nothing = torch.zeros(len(evidence.logits[0]), 1, 1)
    return DetectorOutput(Predictions(nothing, nothing.expand(-1, -1, 4)), evidence=(evidence,))


def target(*boxes: list[float], size_hw: tuple[int, int] = CANVAS) -> Target:
    return Target.of(torch.tensor(boxes).reshape(-1, 4), torch.zeros(len(boxes), dtype=torch.long), size_hw)


def test_confidence_is_one_at_the_center_and_a_half_at_the_sides() -> None:
    """Cells of 2 px; a box of 20 x 12 px whose center is a cell's."""
    confidence = level_targets(torch.tensor([[11.0, 15.0, 31.0, 27.0]]), (32, 48), CANVAS)
    assert confidence[10, 10] == 1
    beside = level_targets(torch.tensor([[11.0, 15.0, 31.01, 27.01]]), (32, 48), CANVAS)
    assert beside[10, 15] == pytest.approx(0.5, abs=1e-2)
    assert beside[13, 15] == pytest.approx(1 - 1 / math.sqrt(2), abs=1e-2), "0.29 at corners, as in the official code"
    assert confidence[10, 15] == 0, "a center on the side is not inside"


@given(st.lists(st.tuples(*[st.floats(0, 60)] * 2, *[st.floats(0.5, 40)] * 2), max_size=6))
@settings(max_examples=50, deadline=None)
def test_targets_are_the_maximum_over_boxes_and_zero_outside(boxes: list[tuple[float, ...]]) -> None:
    corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes]).reshape(-1, 4)
    confidence = level_targets(corners, (8, 12), CANVAS)
    single = [level_targets(box[None], (8, 12), CANVAS) for box in corners]
    expected = torch.stack(single).amax(0) if single else torch.zeros(8, 12)
    assert torch.equal(confidence, expected)
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_a_level_learns_objects_of_its_sizes_only() -> None:
    boxes = torch.tensor([[0.0, 0.0, 60.0, 60.0]])
    near, far = (level_targets(boxes, (8, 12), CANVAS, limit) for limit in ((-1.0, 40.0), (40.0, math.inf)))
    everything = level_targets(boxes, (8, 12), CANVAS)
    assert torch.equal(near + far, everything), "each cell by its distance to the farthest side"
    assert near.any() and far.any()


def test_every_cell_is_as_if_it_were_compared_with_every_box() -> None:
    """The slow and obvious way; boxes may leave the canvas."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, generator=generator) * 100 - 10
    boxes = torch.cat([corners, corners + 0.5 + torch.rand(200, 2, generator=generator) * 30], dim=1)
    y, x = torch.meshgrid((torch.arange(16) + 0.5) * 4, (torch.arange(24) + 0.5) * 4, indexing="ij")
    dx, dy = x[..., None] - (boxes[:, 0] + boxes[:, 2]) / 2, y[..., None] - (boxes[:, 1] + boxes[:, 3]) / 2
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    inside = (dx.abs() < wide / 2) & (dy.abs() < high / 2)
    expected = (1 - ((dx / wide) ** 2 + (dy / high) ** 2).sqrt()).masked_fill(~inside, 0.0).amax(-1)
    torch.testing.assert_close(level_targets(boxes, (16, 24), CANVAS), expected)


def test_the_papers_confidence_is_zero_at_corners() -> None:
    box = torch.tensor([[11.0, 15.0, 31.01, 27.01]])
    code, paper = (level_targets(box, (32, 48), CANVAS, confidence=kind) for kind in ("code", "paper"))
    assert paper[13, 15] == pytest.approx(0.0, abs=1e-2)
    assert code[13, 15] > 0.25


def test_ignore_regions_are_not_background() -> None:
    logits = [torch.zeros(1, 8, 12, requires_grad=True), torch.zeros(1, 4, 6, requires_grad=True)]
    region = torch.tensor([[0.0, 0.0, 48.0, 64.0]])
    truth = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), CANVAS, ignore=region)
    SalienceLoss(limits_px=None)(output(SalienceMaps(tuple(logits), (), CANVAS)), [truth], 0.0)["salience"].backward()
    for level in logits:
        assert level.grad is not None
        half = level.shape[-1] // 2
        assert (level.grad[..., :half] == 0).all() and (level.grad[..., half:] > 0).all()


def test_the_loss_is_per_positive_cell_and_ignores_padding() -> None:
    loss = SalienceLoss(limits_px=None)
    whole = loss(output(maps()), [target([0.0, 0.0, 20.0, 20.0])], 0.0)["salience"]
    padded = loss(output(maps()), [target([0.0, 0.0, 20.0, 20.0], size_hw=(32, 48))], 0.0)["salience"]
    official = SalienceLoss(limits_px=None, mask_padding=False)
    seen = official(output(maps()), [target([0.0, 0.0, 20.0, 20.0], size_hw=(32, 48))], 0.0)["salience"]
    assert padded < whole
    assert seen == whole


def test_an_image_without_objects_is_all_background() -> None:
    logits = torch.zeros(1, 8, 12, requires_grad=True)
    evidence = SalienceMaps((logits, torch.zeros(1, 4, 6)), (), CANVAS)
    loss = SalienceLoss(limits_px=(32.0, 64.0))(output(evidence), [target()], 0.0)["salience"]
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_other_detectors_have_no_salience_loss() -> None:
    nothing = torch.zeros(1, 1, 1)
    assert SalienceLoss()(DetectorOutput(Predictions(nothing, nothing.expand(-1, -1, 4))), [target()], 0.0) == {}


def test_limits_are_one_per_level() -> None:
    with pytest.raises(ValueError, match="one salience limit for each of 2 levels"):
        SalienceLoss()(output(maps()), [target()], 0.0)
