"""The loop learns, keeps the best, ends when it should, and fills the run folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_detector import StubBatches, StubCriterion, StubDetector, stub_dataset, stub_detector
from torch import nn

from smidgen.structures import Classes, ObjectSizes
from smidgen.training import OutOfMemory, TrainingConfig, TrainingDiverged, TrainingResult, train
from smidgen.training.state import read_state

CONFIG = TrainingConfig(epochs=2, learning_rate=1e-2, log_every=1, memory_forecast=False)


def fit(out: Path, config: TrainingConfig = CONFIG, **options: Any) -> TrainingResult:
    options = {"batches": StubBatches(), "device": "cpu", **options}
    model, criterion = options.pop("model", None) or stub_detector(), options.pop("criterion", None) or StubCriterion()
    return train(model, criterion, options.pop("dataset", stub_dataset()), config, out, **options)


def lines(out: Path, kind: str) -> list[dict[str, Any]]:
    read = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in read if line["kind"] == kind]


def evaluations(*values: float) -> Any:
    """An `evaluate` that answers with these in turn."""
    answers = iter(values)
    return lambda model: {"AP": next(answers), "AP50": 0.5}


def test_the_loss_falls(tmp_path: Path) -> None:
    fit(tmp_path / "run", replace(CONFIG, epochs=10, log_every=10))
    losses = [line["loss"] for line in lines(tmp_path / "run", "train")]
    assert losses[-1] < 0.8 * losses[0]


def test_run_folder_has_what_was_promised(tmp_path: Path, pictures: list[Path]) -> None:
    result = fit(tmp_path / "run", evaluate=evaluations(0.1, 0.2), experiment={"training": {"milestones": (1, 2)}})
    names = {path.relative_to(result.run).as_posix() for path in result.run.rglob("*") if path.is_file()}
    assert names == {
        "best/config.json", "best/model.safetensors", "curves.png", "environment.json", "experiment.yaml",
        "last/config.json", "last/model.safetensors", "last/training_state.pt", "log.txt", "metrics.jsonl",
        "train_samples/step_0.png", "train_samples/step_1.png",
    }  # fmt: skip
    assert (result.run / "experiment.yaml").read_text() == "training:\n  milestones:\n  - 1\n  - 2\n"
    assert json.loads((result.run / "environment.json").read_text())["torch_build"] == torch.__version__
    assert result.metrics == {"AP": 0.2, "AP50": 0.5}
    assert result.best == result.run / "best"
    assert len(pictures) == 2


def test_best_is_the_best_and_last_is_the_last(tmp_path: Path) -> None:
    fit(tmp_path / "run", replace(CONFIG, epochs=3), evaluate=evaluations(0.1, 0.9, 0.5))
    best, last = (json.loads((tmp_path / "run" / name / "config.json").read_text()) for name in ("best", "last"))
    assert best["metrics"]["AP"] == 0.9
    assert last["metrics"]["AP"] == 0.5
    assert best["classes"] == {"names": ["car", "boat"], "ids": [3, 7]}


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_checkpoints_know_how_large_the_objects_were(tmp_path: Path, ema_decay: float) -> None:
    dataset = stub_dataset()
    fit(tmp_path / "own", dataset=dataset)
    dataset.object_sizes = ObjectSizes(count=6, median_px=4.0, percentile_99_px=4.0, largest_px=4.0)
    fit(tmp_path / "known", replace(CONFIG, ema_decay=ema_decay), dataset=dataset, evaluate=evaluations(0.1, 0.2))
    for folder, sizes in (("own/last", None), ("known/best", 4.0), ("known/last", 4.0)):
        kept = json.loads((tmp_path / folder / "config.json").read_text())["object_sizes"]
        assert kept is None if sizes is None else kept["percentile_99_px"] == sizes


def test_training_ends_early_when_nothing_improves(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=10, early_stopping=2)
    fit(tmp_path / "run", config, evaluate=evaluations(0.5, 0.4, 0.3, 0.9))
    assert [line["metrics"]["AP"] for line in lines(tmp_path / "run", "evaluation")] == [0.5, 0.4, 0.3]


def test_steps_and_minutes_are_limits(tmp_path: Path) -> None:
    fit(tmp_path / "steps", replace(CONFIG, max_steps=3), evaluate=evaluations(0.1))
    assert [line["step"] for line in lines(tmp_path / "steps", "train")] == [1, 2, 3]
    result = fit(
        tmp_path / "minutes", replace(CONFIG, epochs=10**6, max_minutes=0.005), evaluate=lambda model: {"AP": 1}
    )
    assert 0.3 <= result.seconds < 30
    assert result.metrics == {"AP": 1}


def test_a_finished_run_stays_finished(tmp_path: Path) -> None:
    first = fit(tmp_path / "run", evaluate=evaluations(0.1, 0.2))
    again = fit(tmp_path / "run", evaluate=evaluations(), resume=True)
    assert (again.metrics, again.best) == (first.metrics, first.best)


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    """With a normalizer that does not depend on the batch, two batches of two are one of four."""

    class Halved(StubCriterion):
        def forward(self, output: Any, targets: Any, progress: float) -> dict[str, torch.Tensor]:
            return {"class": (output.final.logits**2).mean(), "box": (output.final.boxes_cxcywh**2).mean()}

    def trained(name: str, config: TrainingConfig, batches: StubBatches) -> dict[str, torch.Tensor]:
        model = stub_detector()
        model.backbone[1].eval()
        model.backbone[1].train = lambda mode=True: model.backbone[1]  # type: ignore[method-assign,assignment]
        fit(tmp_path / name, config, batches=batches, model=model, criterion=Halved())
        return model.state_dict()

    one = trained("one", replace(CONFIG, batch_size=4), StubBatches(count=3, batch_size=4))
    two = trained("two", replace(CONFIG, accumulation=2), StubBatches(count=6, batch_size=2))
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_progress_runs_from_zero_to_one(tmp_path: Path) -> None:
    criterion = StubCriterion()
    fit(tmp_path / "run", criterion=criterion)
    assert criterion.progress == [step / 12 for step in range(12)]


def test_the_average_is_evaluated_and_saved(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    evaluated: list[torch.Tensor] = []
    model = stub_detector()

    def evaluate(candidate: nn.Module) -> dict[str, float]:
        assert not candidate.training
        evaluated.append(candidate.class_head.weight.clone())
        return {"AP": 0.5}

    fit(tmp_path / "run", replace(CONFIG, epochs=1, ema_decay=0.9), evaluate=evaluate, model=model)
    saved = load_file(tmp_path / "run" / "best" / "model.safetensors")["class_head.weight"]
    assert torch.equal(saved, evaluated[0])
    assert not torch.equal(saved, model.class_head.weight)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_losses_that_are_no_numbers_stop_everything_and_spoil_nothing(tmp_path: Path, broken: float) -> None:
    class Breaking(StubCriterion):
        def forward(self, output: Any, targets: Any, progress: float) -> dict[str, torch.Tensor]:
            terms = super().forward(output, targets, progress)
            return {**terms, "l1": terms["l1"] * (broken if self.calls == 5 else 1)}

    model = stub_detector()
    config = replace(CONFIG, checkpoint_every_steps=2, ema_decay=0.9)
    with pytest.raises(TrainingDiverged, match=r"step 4 \(l1 = (nan|inf)\)"):
        fit(tmp_path / "run", config, model=model, criterion=Breaking())
    state = read_state(tmp_path / "run" / "last")
    assert state["position"]["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in [*state["model"].values(), *model.state_dict().values()])


def test_a_gradient_that_is_no_number_changes_no_weight(tmp_path: Path) -> None:
    class Steep(nn.Module):
        def forward(self, output: Any, targets: Any, progress: float) -> dict[str, torch.Tensor]:
            return {"class": (output.final.logits * 0).sum().sqrt()}  # sqrt has no slope at 0

    model = stub_detector()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    with pytest.raises(TrainingDiverged, match="gradient"):
        fit(tmp_path / "run", model=model, criterion=Steep())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.named_parameters())


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate")],
)
def test_running_out_of_memory_names_the_ways_out(tmp_path: Path, error: Exception) -> None:
    def fail(epoch: int, batch: int) -> None:
        raise error

    with pytest.raises(OutOfMemory) as caught:
        fit(tmp_path / "run", batches=StubBatches(on_batch=fail))
    for word in ("batch_size (now 2", "precision=bf16", "activation_checkpointing", "short_side", "16"):
        assert word in str(caught.value)


def test_bfloat16_trains_and_leaves_float32_losses(tmp_path: Path) -> None:
    class Watching(StubCriterion):
        def forward(self, output: Any, targets: Any, progress: float) -> dict[str, torch.Tensor]:
            assert output.final.logits.dtype == output.final.boxes_cxcywh.dtype == torch.float32
            return super().forward(output, targets, progress)

    model = stub_detector()
    fit(tmp_path / "run", replace(CONFIG, epochs=1, precision="bf16"), model=model, criterion=Watching())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    fit(tmp_path / "fp32", replace(CONFIG, epochs=1))
    ours, exact = (lines(tmp_path / name, "train")[0]["loss"] for name in ("run", "fp32"))
    assert ours != exact
    assert ours == pytest.approx(exact, rel=0.05)


def test_activation_checkpointing_is_switched_on_or_refused(tmp_path: Path) -> None:
    model = stub_detector()
    config = replace(CONFIG, epochs=1, activation_checkpointing=True)
    fit(tmp_path / "run", config, model=model)
    assert model.checkpointed
    model.enable_activation_checkpointing = None  # type: ignore[assignment,method-assign]
    with pytest.raises(ValueError, match=r"training\.activation_checkpointing"):
        fit(tmp_path / "other", config, model=model)


def test_a_second_run_does_not_mix_with_the_first(tmp_path: Path) -> None:
    fit(tmp_path / "run", replace(CONFIG, epochs=1))
    with pytest.raises(ValueError, match="--resume"):
        fit(tmp_path / "run")
    with pytest.raises(ValueError, match="no such folder"):
        fit(tmp_path / "nowhere", resume=True)


def test_classes_of_model_and_data_must_agree(tmp_path: Path) -> None:
    dataset = stub_dataset()
    dataset.classes = Classes(("car", "boat", "person"), (3, 7, 9))
    with pytest.raises(ValueError, match=r"3 classes \(3 car, 7 boat, 9 person\).*2 classes"):
        fit(tmp_path / "run", dataset=dataset)
    assert not (tmp_path / "run").exists()


def test_unknown_best_metric_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"training.best_metric to be one of AP, AP50, got 'mAP'"):
        fit(tmp_path / "run", replace(CONFIG, best_metric="mAP"), evaluate=evaluations(0.1))


def test_more_objects_than_queries_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path / "run", replace(CONFIG, epochs=1), dataset=stub_dataset([1, 4, 9, 5]))
    said = capsys.readouterr()
    assert "2 of 4 images (50.0%) hold more objects than the model's 4 queries; the fullest has 9" in said.err
    assert said.out == ""
    assert "the fullest has 9" in (tmp_path / "run" / "log.txt").read_text()


def test_evaluation_does_not_change_the_training(tmp_path: Path) -> None:
    def evaluate(model: StubDetector) -> dict[str, float]:
        torch.rand(7)
        return {"AP": 0.1}

    fit(tmp_path / "with", evaluate=evaluate, model=stub_detector(noise=0.5))
    fit(tmp_path / "without", model=stub_detector(noise=0.5))
    first, second = ([line["loss"] for line in lines(tmp_path / name, "train")] for name in ("with", "without"))
    assert first == second


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(tmp_path / "run", replace(CONFIG, epochs=1, tensorboard=True))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
