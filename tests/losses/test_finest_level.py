"""What the query map of a sparse finest level is taught."""

from __future__ import annotations

import torch
from torch import Tensor

from smidgen.losses.finest_level import FinestLevelLoss, focal_loss
from smidgen.structures import ActiveTokens, DetectorOutput, Predictions, Target
from smidgen.tokens.sparse_finest_level import FinestLevel

SHAPE, CANVAS_HW = (8, 12), (64, 96)


def level(logits: Tensor | None = None, padding: Tensor | None = None) -> FinestLevel:
    logits = torch.zeros(1, *SHAPE) if logits is None else logits
    padding = torch.zeros_like(logits, dtype=torch.bool) if padding is None else padding
    chosen = ActiveTokens(torch.zeros(len(logits), 1, dtype=torch.long), torch.ones(len(logits), 1, dtype=torch.bool))
    return FinestLevel(logits, padding, torch.zeros_like(padding), chosen, torch.zeros(len(logits)), CANVAS_HW)


def target(*boxes: tuple[float, ...], ignore: Tensor | None = None) -> Target:
    xyxy = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Target.of(xyxy, torch.zeros(len(xyxy), dtype=torch.long), CANVAS_HW, ignore=ignore)


def wanted(*boxes: tuple[float, ...], **options: float) -> Tensor:
    return FinestLevelLoss(**options).targets(level(), [target(*boxes)])[0]


def loss(evidence: FinestLevel, targets: list[Target]) -> Tensor:
    batch = len(targets)
    output = DetectorOutput(final=Predictions(torch.zeros(batch, 1, 1), torch.zeros(batch, 1, 4)), evidence=(evidence,))
    return FinestLevelLoss()(output, targets, 0.0)["finest_level"]


def centers() -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(8) * 8 + 4.0, torch.arange(12) * 8 + 4.0, indexing="ij")
    return x, y


def test_cells_nearer_than_the_objects_own_scale_are_positive() -> None:
    """A 16 x 16 object centered at (40, 32): the radius is 16 px, and strictly so."""
    x, y = centers()
    assert torch.equal(wanted((32, 24, 48, 40)), ((x - 40) ** 2 + (y - 32) ** 2).sqrt() < 16)
    assert torch.equal(wanted((32, 24, 48, 40), radius=0.5), ((x - 40) ** 2 + (y - 32) ** 2).sqrt() < 8)


def test_large_objects_are_left_to_coarser_levels() -> None:
    assert not wanted((0, 0, 32, 32)).any()
    assert wanted((0, 0, 31.9, 31.9)).any()
    assert wanted((0, 0, 32, 32), largest_px=33).any()


def test_the_nearest_object_alone_decides() -> None:
    """Cell (0, 2) at (20, 4) is 11.7 px from the center of a 28 px object, and 3.6 px from that of a 2 px one."""
    large, tiny = (0.0, 0.0, 28.0, 28.0), (21.0, 6.0, 23.0, 8.0)
    assert wanted(large, own_cell=False)[0, 2]
    assert not wanted(large, tiny, own_cell=False)[0, 2]


def test_an_object_between_the_centers_of_cells_is_taught_to_its_own_cell() -> None:
    """3 x 3 px at (9.5, 9.5): the nearest center is 3.5 * sqrt(2) = 4.9 px away."""
    tiny = (8.0, 8.0, 11.0, 11.0)
    assert wanted(tiny).nonzero().tolist() == [[1, 1]]
    assert not wanted(tiny, own_cell=False).any()


def test_images_without_small_objects_are_all_background() -> None:
    assert not FinestLevelLoss().targets(level(torch.zeros(2, *SHAPE)), [target(), target((0, 0, 60, 60))]).any()


def test_focal_loss_of_undecided_cells() -> None:
    """With x = 0 a background cell costs 0.75 * 0.5^1.2 * ln 2 (specs 1.7)."""
    found = focal_loss(torch.zeros(2), torch.tensor([False, True]), 0.25, 1.2)
    expected = torch.tensor([0.75, 0.25]) * 0.5**1.2 * torch.tensor(2.0).log()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loss(level(), [target()]), expected[0])


def test_padded_cells_and_ignore_regions_have_no_say() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, padding = torch.randn(1, *SHAPE, generator=generator), torch.zeros(1, *SHAPE, dtype=torch.bool)
    padding[:, 6:] = True
    ignore = torch.tensor([[40.0, 0.0, 96.0, 16.0]])
    truth = [target((32, 24, 48, 40), ignore=ignore)]
    before = loss(level(logits, padding), truth)
    changed = logits.clone()
    changed[:, 6:] += 5
    changed[:, :2, 5:] += 5
    torch.testing.assert_close(loss(level(changed, padding), truth), before)
    changed[:, 3, 3] += 5
    assert loss(level(changed, padding), truth) != before


def test_objects_within_ignore_regions_are_taught() -> None:
    truth = [target((32, 24, 48, 40), ignore=torch.tensor([[0.0, 0.0, 96.0, 64.0]]))]
    right = torch.full((1, *SHAPE), 8.0)
    assert loss(level(right), truth) < 0.01
    assert loss(level(-right), truth) > 0.5


def test_outputs_without_a_query_map_have_no_loss() -> None:
    output = DetectorOutput(final=Predictions(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4)))
    assert FinestLevelLoss()(output, [target()], 0.0) == {}
