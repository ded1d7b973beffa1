"""A training step runs ahead of the device: the host waits where the assignment needs its figures, and at the end.

KNOWN lists what waits nevertheless, with the reason. Without a GPU the waits are counted on a stand-in device; with a
GPU, CUDA itself is asked to refuse them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from stand_in_device import STAND_IN, StandInTensor, Watch, moved

from smidgen.boxes import host_matching
from smidgen.losses import salience
from smidgen.models import create_criterion, create_model, list_models
from smidgen.structures import ImageBatch, Target
from smidgen.training import step as training_step
from smidgen.training.data_feed import moved_to

NUM_CLASSES = 3
THE_ONE_COPY = "_to_copy boxes/host_matching.py:_copied_to_host"

# How many boxes survive torchvision's suppression only their values say.
SUPPRESSION = "queries/suppressed_topk.py"
KNOWN: dict[str, set[str]] = {"salience_detr": {SUPPRESSION}, "salience_detr_5scale": {SUPPRESSION}}

# Each brings parts that the others do not have; the rest takes minutes.
AT_ONCE = (
    "cross_dino",
    "deformable_detr_one_stage",
    "dino_plus",
    "lsq_detr",
    "paq_dn_deformable_detr",
    "salience_detr",
)
DENSE = ("retinanet", "fcos", "faster_rcnn", "query_det")
SYSTEMS = [name.removesuffix("_nano") for name in list_models("*_nano") if not name.startswith(DENSE)]
EVERY_SYSTEM = [
    pytest.param(name, marks=() if name in AT_ONCE else (pytest.mark.slow,), id=name) for name in sorted(SYSTEMS)
]


@dataclass(frozen=True)
class Parts:
    """What a training step needs."""

    model: torch.nn.Module
    criterion: torch.nn.Module
    images: ImageBatch
    targets: tuple[Target, ...]


def _parts(system: str) -> Parts:
    model = create_model(f"{system}_nano", num_classes=NUM_CLASSES).train()
    shapes = ((64, 96), (64, 64))
    pixels = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for shape in shapes]
    targets = tuple(_target(count, shape) for count, shape in zip((4, 2), shapes, strict=True))
    return Parts(model, create_criterion(model), ImageBatch.collate(pixels, 32), targets)


def _target(count: int, size_hw: tuple[int, int]) -> Target:
    corners = torch.rand(count, 2) * 40
    boxes = torch.cat([corners, corners + torch.rand(count, 2) * 20 + 2], dim=1)
    return Target.of(boxes, torch.randint(0, NUM_CLASSES, (count,)), size_hw, ignore=torch.tensor([[1.0, 1, 9, 9]]))


@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_forward_and_losses_wait_for_the_device_once(system: str) -> None:
    parts = _parts(system)
    moved(parts.model), moved(parts.criterion)
    with Watch() as watch:
        images, targets = moved_to((parts.images, parts.targets), STAND_IN)
        losses = parts.criterion(parts.model(images, targets), targets, 0.3)
        assert all(isinstance(each, StandInTensor) for each in losses.values())
    assert watch.waits.pop(THE_ONE_COPY) == 1
    assert {wait.split()[1].partition(":")[0] for wait in watch.waits} == KNOWN.get(system, set()), watch.waits


@pytest.mark.gpu
@pytest.mark.parametrize("system", EVERY_SYSTEM)
def test_cuda_finds_no_other_wait(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if system in KNOWN:
        pytest.skip(f"waits: {', '.join(KNOWN[system])}")
    parts = _parts(system)
    model, criterion = parts.model.cuda(), parts.criterion.cuda()
    images, targets = parts.images.to("cuda"), tuple(target.to("cuda") for target in parts.targets)
    sum(criterion(model(images, targets), targets, 0.3).values()).backward()  # what happens only once may wait
    copied = host_matching._copied_to_host
    monkeypatch.setattr(host_matching, "_copied_to_host", lambda pieces: _allowed(copied, pieces))
    with _refusing_waits():
        sum(criterion(model(images, targets), targets, 0.3).values()).backward()


@contextmanager
def _refusing_waits():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _allowed(call, *arguments):
    torch.cuda.set_sync_debug_mode("default")
    try:
        return call(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("error")


def test_a_step_reports_by_one_copy() -> None:
    session = SimpleNamespace(
        accelerator=SimpleNamespace(device=STAND_IN, num_processes=1),
        position=SimpleNamespace(step=3),
        config=SimpleNamespace(max_minutes=None, checkpoint_every_seconds=None, checkpoint_every_steps=4),
        clock=SimpleNamespace(seconds=1.0, saved=0.0),
        stop=SimpleNamespace(requested=False),
    )
    batches = [{"class": 1.0, "l1": 2.0}, {"class": 3.0}]
    terms = [{name: StandInTensor(torch.tensor(value)) for name, value in each.items()} for each in batches]
    with Watch() as watch:
        report = training_step._checked_report(session, terms, StandInTensor(torch.tensor(0.5)))  # type: ignore[arg-type]
    assert sum(watch.waits.values()) == 1
    assert (report.loss, report.gradient_norm, dict(report.terms)) == (3.0, 0.5, {"class": 2.0, "l1": 2.0})
    assert (report.stop_requested, report.time_is_up, report.save_is_due) == (False, False, True)


def test_salience_targets_without_waiting_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = torch.cat([target.boxes_xyxy for target in (_target(9, (64, 96)), _target(4, (64, 96)))])
    expected = salience.level_targets(boxes, (8, 12), (64, 96), (4.0, 20.0))
    monkeypatch.setattr(salience, "PAIRS_AT_ONCE", 3 * 8 * 12)
    with Watch() as watch:
        found = salience.level_targets(StandInTensor(boxes), (8, 12), (64, 96), (4.0, 20.0))
    assert isinstance(found, StandInTensor) and torch.equal(found.inner, expected) and expected.any()
    assert not watch.waits


@pytest.mark.parametrize(
    ("wait", "operator"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: x.tolist(), "_to_copy"),
        (lambda x: x.cpu(), "_to_copy"),
        (lambda x: bool((x > 0).any()), "_local_scalar_dense"),
        (lambda x: (x > 0).nonzero(), "nonzero"),
        (lambda x: x[x > 0], "index"),
        (lambda x: torch.ones(3).to(x.device), "_to_copy"),
        (lambda x: torch.arange(3, device=STAND_IN).repeat_interleave(x.long().clamp(0, 2)[:3]), "repeat_interleave"),
    ],
)
def test_the_stand_in_notices(wait, operator: str) -> None:
    with Watch() as watch:
        wait(torch.tensor([0.5, -1.0, 2.0]).to(STAND_IN, non_blocking=True))
    assert [name.split()[0] for name in watch.waits] == [operator]


@pytest.mark.parametrize("numbers", [lambda x: x.new_tensor([2.0]), lambda x: torch.tensor([2.0], device=x.device)])
def test_the_stand_in_refuses_numbers_that_are_copied(numbers) -> None:
    with Watch(), pytest.raises(AssertionError, match="make it on the host and send it"):
        some = torch.ones(3).to(STAND_IN, non_blocking=True)
        some * numbers(some)


@pytest.mark.parametrize(
    "run_ahead",
    [
        lambda x: x * 2 + torch.tensor([1.0, 2.0, 3.0]).to(STAND_IN, non_blocking=True),
        lambda x: x.topk(2).values,
        lambda x: torch.where(x > 0, x, 0.0).sum(),
        lambda x: x.masked_fill(x > 0, 1.0),
        lambda x: x[torch.arange(2, device=STAND_IN)],
    ],
)
def test_the_stand_in_lets_run_what_does_not_wait(run_ahead) -> None:
    with Watch() as watch:
        run_ahead(torch.tensor([0.5, -1.0, 2.0]).to(STAND_IN, non_blocking=True))
    assert not watch.waits
