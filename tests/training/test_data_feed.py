"""Batches are sent to the device before they are needed, and waiting for them is counted."""

from __future__ import annotations

import time

import pytest
import torch

from smidgen.data.loaders import Loaded
from smidgen.structures import ImageBatch, Target
from smidgen.training.data_feed import WaitingTime, moved_ahead, moved_to


def _batch() -> tuple[ImageBatch, tuple[Target, ...]]:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    return ImageBatch.collate([image]), (Target.of(torch.rand(2, 4), torch.zeros(2, dtype=torch.long), (4, 4)),)


def _tensors(batch: tuple[ImageBatch, tuple[Target, ...]]) -> list[torch.Tensor]:
    images, (target,) = batch
    return [images.pixels, images.padding, target.boxes_xyxy, target.labels, target.ignore]


def test_the_next_batch_is_on_its_way_while_one_is_worked_on() -> None:
    events: list[str] = []

    def loaded():
        for number in range(3):
            events.append(f"load {number}")
            yield _batch()

    for number, (images, targets) in enumerate(moved_ahead(loaded(), torch.device("meta"))):
        assert images.pixels.device.type == targets[0].boxes_xyxy.device.type == "meta"
        assert images.pixels.dtype == torch.uint8, "pixels travel as they are"
        events.append(f"step {number}")
    assert events == ["load 0", "load 1", "step 0", "load 2", "step 1", "step 2"]


def test_on_a_cpu_nothing_is_loaded_ahead() -> None:
    batches = iter([_batch(), _batch()])
    fed = moved_ahead(batches, torch.device("cpu"))
    next(fed)
    assert len(list(batches)) == 1


def test_no_batches_give_no_batches() -> None:
    assert list(moved_ahead(iter(()), torch.device("meta"))) == []


def test_all_parts_of_a_batch_move() -> None:
    assert {each.device.type for each in _tensors(moved_to(_batch(), "meta"))} == {"meta"}


def test_waiting_is_the_time_until_a_batch_is_there() -> None:
    def slow():
        for _ in range(2):
            time.sleep(0.02)
            yield _batch()

    waiting = WaitingTime()
    for _ in waiting.timed(slow()):
        time.sleep(0.02)
    assert waiting.waited >= 0.04
    assert waiting.share == pytest.approx(waiting.waited / (time.monotonic() - waiting.started), rel=0.1)
    waiting.restart()
    assert waiting.waited == 0 and waiting.share == 0


def test_a_loaded_batch_is_pinned_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.numel()) or tensor)
    batch = _batch()
    again = Loaded(batch, ("a problem",), 2).pin_memory()
    assert sorted(pinned) == sorted(each.numel() for each in _tensors(batch))
    assert (again.problems, again.vanished) == (("a problem",), 2)
    assert Loaded(None).pin_memory() == Loaded(None)
