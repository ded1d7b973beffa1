"""A run that stops anywhere and goes on is the run that never stopped, bit for bit."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_detector import StubBatches, StubCriterion, signal_at, stub_dataset, stub_detector

from smidgen.training import Interrupted, TrainingConfig, train
from smidgen.training import state as training_state
from smidgen.training.state import read_state

CONFIG = TrainingConfig(
    epochs=3, learning_rate=1e-2, schedule="cosine", warmup_steps=4, ema_decay=0.9, log_every=1, memory_forecast=False
)
# Seconds differ; and the type checker of these tests draws from Python's generator wherever it checks a list.
NOT_COMPARED = {"seconds", "python"}


def fit(out: Path, config: TrainingConfig = CONFIG, **options: Any) -> Any:
    """Train the stub with noise from the global generators; returns model and criterion."""
    model, criterion = stub_detector(noise=0.3), StubCriterion()
    options = {"batches": StubBatches(), "device": "cpu", "evaluate": lambda model: {"AP": 0.5}, **options}
    train(model, criterion, stub_dataset(), config, out, **options)


def lines(out: Path) -> list[dict[str, Any]]:
    """Everything in metrics.jsonl that does not depend on the clock or the machine."""
    read = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    clocked = ("seconds", "memory_gb", "data_waiting_share")
    return [{name: value for name, value in line.items() if name not in clocked} for line in read]


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Equal nested states, tensors bit by bit."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first.keys() - NOT_COMPARED:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert first == second, where


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (1, 2), (1, 5), (2, 5)])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_stopping_and_resuming_changes_nothing(tmp_path: Path, epoch: int, batch: int, accumulation: int) -> None:
    config = replace(CONFIG, accumulation=accumulation)
    fit(tmp_path / "straight", config)
    with pytest.raises(Interrupted) as stopped:
        fit(tmp_path / "stopped", config, batches=StubBatches(on_batch=signal_at(epoch, batch)))
    assert read_state(tmp_path / "stopped" / "last")["position"]["step"] == stopped.value.step
    fit(tmp_path / "stopped", config, resume=True)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "straight")
    assert_same(*(read_state(tmp_path / name / "last") for name in ("stopped", "straight")))


def test_the_place_is_kept_inside_an_epoch(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"after step 9.*--resume"):
        fit(tmp_path / "run", batches=StubBatches(on_batch=signal_at(1, 2, signal.SIGTERM)))
    position = read_state(tmp_path / "run" / "last")["position"]
    assert (position["epoch"], position["batch"], position["step"]) == (1, 3, 9)
    given: list[tuple[int, int]] = []
    fit(tmp_path / "run", batches=StubBatches(on_batch=lambda *place: given.append(place)), resume=True)
    assert given[0] == (1, 3)


def test_a_killed_run_goes_on_from_its_last_save(tmp_path: Path) -> None:
    """Lines written after that save are written again, not twice."""

    class KilledError(Exception):
        pass

    def kill(epoch: int, batch: int) -> None:
        if (epoch, batch) == (1, 3):
            raise KilledError

    config = replace(CONFIG, checkpoint_every_steps=4)
    fit(tmp_path / "straight", config)
    with pytest.raises(KilledError):
        fit(tmp_path / "run", config, batches=StubBatches(on_batch=kill))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tr')  # cut off while writing
    fit(tmp_path / "run", config, resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "straight")


def test_a_run_killed_before_its_first_save_starts_again(tmp_path: Path) -> None:
    fit(tmp_path / "straight")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 2.0}\n')
    fit(tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "straight")


def test_interrupted_evaluation_is_done_again(tmp_path: Path) -> None:
    def interrupt(model: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return {"AP": 0.0}

    fit(tmp_path / "straight")
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", evaluate=interrupt)
    assert [line for line in lines(tmp_path / "run") if line["kind"] == "evaluation"] == []
    fit(tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "straight")


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    def twice(epoch: int, batch: int) -> None:
        if (epoch, batch) == (0, 2):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # a background job of a shell ignores it
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", batches=StubBatches(on_batch=twice))
    assert not (tmp_path / "run" / "last").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, checkpoint_every_steps=2)
    real_save, calls = torch.save, []

    def save(state: Any, file: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_save(state, file)

    monkeypatch.setattr(training_state.torch, "save", save)
    with pytest.raises(OSError, match=r"could not write .*last.*No space left.*unchanged.*free some space") as caught:
        fit(tmp_path / "run", config)
    assert caught.value.errno == errno.ENOSPC
    assert read_state(tmp_path / "run" / "last")["position"]["step"] == 4
    assert not list((tmp_path / "run").glob(".partial*"))
    fit(tmp_path / "run", config, resume=True)


def test_a_crash_between_two_renames_is_repaired(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", batches=StubBatches(on_batch=signal_at(1, 2)))
    (tmp_path / "run" / "last").rename(tmp_path / "run" / ".earlier-last")
    fit(tmp_path / "run", resume=True)
    assert read_state(tmp_path / "run" / "last")["position"]["step"] == 18


def test_resuming_other_data_is_refused_and_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", batches=StubBatches(on_batch=signal_at(1, 2)), experiment={"data": "first"})
    with pytest.raises(ValueError, match="6 batches per epoch as in the run so far, got 5"):
        fit(tmp_path / "run", batches=StubBatches(count=5), resume=True, experiment={"data": "other"})
    assert (tmp_path / "run" / "experiment.yaml").read_text() == "data: first\n"


def test_changed_settings_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", batches=StubBatches(on_batch=signal_at(1, 2)))
    fit(tmp_path / "run", replace(CONFIG, clip_norm=1.0, log_every=2), resume=True)
    said = capsys.readouterr().err
    assert "training.clip_norm was 0.1 and is 1.0" in said
    assert "log_every" not in said


def test_changed_rates_and_decay_take_effect(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", batches=StubBatches(on_batch=signal_at(1, 2)))
    fit(tmp_path / "run", replace(CONFIG, learning_rate=3e-2, weight_decay=0.5), resume=True)
    groups = read_state(tmp_path / "run" / "last")["optimizer"]["param_groups"]
    assert {group["name"]: group["initial_lr"] for group in groups}["other"] == 3e-2
    assert all(group["weight_decay"] == 0.5 for group in groups)


def test_damaged_state_says_so(tmp_path: Path) -> None:
    (tmp_path / training_state.STATE_FILE).write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"training_state.pt.*could not read"):
        read_state(tmp_path)


def test_state_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return os.system, ("echo harm",)

    torch.save({"format": 1, "model": Harmful()}, tmp_path / training_state.STATE_FILE)
    with pytest.raises(ValueError, match="could not read"):
        read_state(tmp_path)
