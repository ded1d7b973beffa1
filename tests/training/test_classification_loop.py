from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from image_folder_cases import SMALL_IMAGES, TINY, make_image_folder
from torch import nn

import smidgen.training.classification_loop as loop
import smidgen.training.classification_session as classification_session
from smidgen.checkpoints.classification import load_classifier
from smidgen.training import Interrupted, TrainingDiverged
from smidgen.training.classification_config import ClassificationAugmentation, ClassificationTraining
from smidgen.training.classification_loop import ClassificationResult, train_classifier
from smidgen.training.classification_session import chosen_precision, decay_groups
from smidgen.training.image_folder import LabeledBatch, TrainingImageBatches
from smidgen.training.state import read_state

CONFIG = ClassificationTraining(
    epochs=2, batch_size=6, learning_rate=0.2, warmup_epochs=0.5, ema_decay=0.9, workers=0, log_every=1
)
PLAIN = ClassificationAugmentation(image_size=32, crop_area=(0.5, 1.0), policy="none", erasing=0, mixup=0, cutmix=0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing and waiting for the disk take longer than the trainings here."""
    monkeypatch.setattr(loop, "draw_curves", lambda lines, path: path.write_bytes(b"curves"))
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_folder(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    fit(data, out, experiment={"data": "here"})
    return out


def fit(data: Path, out: Path, config: ClassificationTraining = CONFIG, **options: Any) -> ClassificationResult:
    options = {"augmentation": SMALL_IMAGES, "device": "cpu", **options}
    return train_classifier(TINY, data, out, config=config, **options)


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    read = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    varying = ("seconds", "memory_gb")
    return [{name: line[name] for name in line if name not in varying} for line in read if line["kind"] == kind]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int) -> Callable[[], None]:
    """Ctrl-C while this batch is made; the answer takes it back."""
    unbroken = TrainingImageBatches.epoch

    def epoch_with_signal(self: TrainingImageBatches, number: int, start: int = 0) -> Iterator[LabeledBatch]:
        for index, each in enumerate(unbroken(self, number, start), start=start):
            if (number, index) == (epoch, batch):
                os.kill(os.getpid(), signal.SIGINT)
            yield each

    monkeypatch.setattr(TrainingImageBatches, "epoch", epoch_with_signal)
    return lambda: monkeypatch.setattr(TrainingImageBatches, "epoch", unbroken)


def test_colors_are_learned(data: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=8, learning_rate=1.0, ema_decay=0.0, label_smoothing=0.0)
    result = fit(data, tmp_path / "run", config, augmentation=PLAIN)
    assert lines(tmp_path / "run", "evaluation")[0]["metrics"]["loss"] > result.metrics["loss"]
    assert result.metrics["top1"] >= 0.9
    assert result.metrics["top5"] == 1.0


def test_run_folder_is_complete(straight: Path) -> None:
    names = {"best", "last", "metrics.jsonl", "environment.json", "experiment.yaml", "log.txt", "train_samples"}
    assert names <= {item.name for item in straight.iterdir()}
    assert [line["epoch"] for line in lines(straight, "evaluation")] == [1, 2]
    assert len(lines(straight, "train")) == 6
    network, classifier = load_classifier(straight)
    assert classifier.class_names == ("blue", "green", "red")
    assert (classifier.architecture, classifier.image_size) == ("resnet10t", 32)
    average = {name.removeprefix("module."): value for name, value in read_state(straight / "last")["average"].items()}
    kept = network.state_dict()
    assert kept.keys() == average.keys() - {"n_averaged"}
    assert straight.joinpath("experiment.yaml").read_text() == "data: here\n"


@pytest.mark.parametrize(("epoch", "batch"), [(0, 1), (1, 2)])
def test_stopping_and_resuming_changes_nothing(
    data: Path, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int
) -> None:
    undo = interrupt_at(monkeypatch, epoch, batch)
    with pytest.raises(Interrupted, match=f"after step {3 * epoch + batch + 1}; saved"):
        fit(data, tmp_path / "stopped")
    undo()
    fit(data, tmp_path / "stopped", resume=True)
    for kind in ("train", "evaluation"):
        assert lines(tmp_path / "stopped", kind) == lines(straight, kind)
    expected, stopped = (read_state(run / "last") for run in (straight, tmp_path / "stopped"))
    for part in ("model", "average"):
        assert all(torch.equal(tensor, stopped[part][name]) for name, tensor in expected[part].items()), part
    for index, moments in expected["optimizer"]["state"].items():
        assert all(torch.equal(tensor, stopped["optimizer"]["state"][index][key]) for key, tensor in moments.items())


def test_interrupted_judgement_is_done_again(
    data: Path, tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = loop._sums

    def interrupt(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return unbroken(*arguments)

    monkeypatch.setattr(loop, "_sums", interrupt)
    with pytest.raises(Interrupted):
        fit(data, tmp_path / "run")
    assert not lines(tmp_path / "run", "evaluation")
    monkeypatch.setattr(loop, "_sums", unbroken)
    fit(data, tmp_path / "run", resume=True)
    assert lines(tmp_path / "run", "evaluation") == lines(straight, "evaluation")


def test_a_finished_run_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    first = fit(data, tmp_path / "run", replace(CONFIG, epochs=1))
    again = fit(data, tmp_path / "run", replace(CONFIG, epochs=1), resume=True)
    assert dict(again.metrics) == dict(first.metrics)
    assert len(lines(tmp_path / "run", "train")) == 3


def test_runs_are_not_mixed(data: Path, tmp_path: Path) -> None:
    fit(data, tmp_path / "run", replace(CONFIG, epochs=1))
    with pytest.raises(ValueError, match=r"there is a run in .* already"):
        fit(data, tmp_path / "run")
    with pytest.raises(ValueError, match=r"expected batches per epoch as in the run so far \(3\), got 2"):
        fit(data, tmp_path / "run", replace(CONFIG, batch_size=9), resume=True)
    fit(data, tmp_path / "run", replace(CONFIG, clip_norm=1.0), resume=True)
    assert "training.clip_norm was 5.0 and is 1.0" in (tmp_path / "run" / "log.txt").read_text()


def test_a_refused_resumption_leaves_the_run_as_it_was(data: Path, straight: Path) -> None:
    for config, settings, message in (
        (replace(CONFIG, batch_size=9), TINY, "expected batches per epoch"),
        (CONFIG, replace(TINY, options={**TINY.options, "stem_width": 16}), "expected options as in the run so far"),
    ):
        with pytest.raises(ValueError, match=message):
            train_classifier(
                settings,
                data,
                straight,
                augmentation=SMALL_IMAGES,
                config=config,
                resume=True,
                device="cpu",
                experiment={"data": "elsewhere"},
            )
    assert straight.joinpath("experiment.yaml").read_text() == "data: here\n"


def test_other_augmentation_is_warned_of(data: Path, tmp_path: Path) -> None:
    fit(data, tmp_path / "run", replace(CONFIG, epochs=1))
    fit(data, tmp_path / "run", replace(CONFIG, epochs=1), augmentation=replace(SMALL_IMAGES, flip=0.0), resume=True)
    assert "augmentation.flip was 0.5 and is 0.0" in (tmp_path / "run" / "log.txt").read_text()


def test_divergence_stops_before_the_weights_are_spoiled(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.F, "cross_entropy", lambda logits, *_, **__: logits.sum() * float("nan"))
    with pytest.raises(TrainingDiverged, match="cross_entropy = nan"):
        fit(data, tmp_path / "run")
    assert not (tmp_path / "run" / "last").exists()


def test_bfloat16_trains(data: Path, tmp_path: Path) -> None:
    result = fit(data, tmp_path / "run", replace(CONFIG, epochs=1, precision="bf16"))
    assert 0 <= result.metrics["top1"] <= 1


def test_scaled_losses_train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fp16 does on a GPU, here on the CPU: scale, unscale, clip; and the scale is taken up again."""
    monkeypatch.setattr(classification_session, "chosen_precision", lambda *_: "fp16")
    config = replace(CONFIG, epochs=1)
    fit(data, tmp_path / "run", config)
    undo = interrupt_at(monkeypatch, 0, 1)
    with pytest.raises(Interrupted):
        fit(data, tmp_path / "stopped", config)
    undo()
    fit(data, tmp_path / "stopped", config, resume=True)
    straight, stopped = (read_state(tmp_path / name / "last") for name in ("run", "stopped"))
    assert straight["scaler"]["scale"] > 1
    assert straight["scaler"] == stopped["scaler"]
    assert all(torch.equal(tensor, stopped["model"][name]) for name, tensor in straight["model"].items())
    assert 0 < lines(tmp_path / "run", "train")[-1]["gradient_norm"] < 1000


@pytest.mark.parametrize("order", [("fp32", "fp16"), ("fp16", "fp32")])
def test_a_run_goes_on_in_another_precision(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    """As one that moves to a GPU, or away from it."""
    for epochs, precision in enumerate(order, start=1):
        monkeypatch.setattr(classification_session, "chosen_precision", lambda *_, chosen=precision: chosen)
        fit(data, tmp_path / "run", replace(CONFIG, epochs=epochs), resume=epochs > 1)
    assert len(lines(tmp_path / "run", "evaluation")) == 2
    assert bool(read_state(tmp_path / "run" / "last")["scaler"]) == (order[1] == "fp16")


def test_precision_follows_the_device() -> None:
    assert chosen_precision(CONFIG, torch.device("cpu")) == "fp32"
    with pytest.raises(ValueError, match="fp16, which needs a GPU"):
        chosen_precision(replace(CONFIG, precision="fp16"), torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16", "auto"])
def test_half_precision_trains_on_a_gpu(data: Path, tmp_path: Path, precision: Any) -> None:
    result = fit(data, tmp_path / "run", replace(CONFIG, epochs=3, precision=precision), device="cuda")
    assert lines(result.run, "train")[-1]["gradient_norm"] > 0
    assert all(tensor.isfinite().all() for tensor in load_classifier(result.run)[0].state_dict().values())


class Scaled(nn.Module):
    """A parameter of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.gamma = nn.Parameter(torch.ones(1, 1, 1, 4))
        self.positions = nn.Parameter(torch.zeros(2, 4))
        self.frozen = nn.Parameter(torch.zeros(2, 4), requires_grad=False)

    def no_weight_decay(self) -> set[str]:
        return {"positions"}


def test_norms_biases_and_scales_are_not_decayed() -> None:
    module = Scaled()
    decayed, spared = decay_groups(module, 0.05)
    assert [id(parameter) for parameter in decayed["params"]] == [id(module.conv.weight)]
    assert len(spared["params"]) == 5
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
