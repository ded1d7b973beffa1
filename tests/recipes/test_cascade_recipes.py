"""The cascade's trade-off measured beside dense, and the threshold chosen for a recall written into a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from smidgen.analysis.cascade_tradeoff import measure_tradeoff, tradeoff_picture
from smidgen.checkpoints import load, save
from smidgen.data import DetectionDataset, open_dataset
from smidgen.data.synthetic import SceneConfig, generate
from smidgen.evaluation import evaluate
from smidgen.models import create_model
from smidgen.models.dense_config import CascadeConfig
from smidgen.recipes import cascade_threshold, cascade_tradeoff
from smidgen.recipes.experiment import default_experiment, read_experiment, with_changes
from smidgen.recipes.running import run_experiment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    generate(folder, SceneConfig(size_wh=(64, 64), objects=(3, 6), side_px=(6.0, 20.0)), splits={"val": 2})
    return folder


@pytest.fixture
def dataset(data: Path) -> DetectionDataset:
    return open_dataset(data, "val")


@pytest.fixture
def model(dataset: DetectionDataset) -> nn.Module:
    torch.manual_seed(2)
    size = {"short_side": 64, "long_side": 64}
    made = create_model("query_det_nano", classes=dataset.classes, preprocessing=size, cascade={"context": 0})
    with torch.no_grad():
        made.query_head.prediction.weight.mul_(200.0)
    return made.eval()


def test_below_every_score_the_cascade_finds_what_the_dense_detector_finds(
    model: nn.Module, dataset: DetectionDataset
) -> None:
    before = model.querying
    found = measure_tradeoff(model, dataset, thresholds=[-1.0, 0.5, 1.0], budgets=[0.1])
    assert model.querying is before
    dense, everything, half, nothing, least = found.points
    assert [point.kind for point in found.points] == ["dense", *["threshold"] * 3, "budget"]
    assert dense.share == everything.share == 1.0
    assert everything.metrics == pytest.approx(dense.metrics, abs=1e-6)
    model.querying = replace(before, cascade=replace(before.cascade, threshold=0.5))
    assert half.metrics == pytest.approx(evaluate(model, dataset).metrics, abs=1e-6)
    assert 0 < half.share < 1 and nothing.share == 0
    assert 0 < least.share <= 0.1
    assert all(point.latency_ms > 0 for point in found.points)


def test_the_numbers_are_written_and_drawn(
    model: nn.Module, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = save(model, tmp_path / "model"), tmp_path / "tradeoff"
    words = ["cascade_tradeoff", str(run), "--data", str(data), "--out", str(out), "--thresholds", "0.5"]
    monkeypatch.setattr("sys.argv", [*words, "--budgets", "40", "--recall", "0.9"])
    cascade_tradeoff.main()
    points = json.loads((out / "cascade_tradeoff.json").read_text())["points"]
    assert [point["kind"] for point in points] == ["dense", "threshold", "threshold", "budget"]
    assert points[-1]["budget"] == 40
    assert (out / "cascade_tradeoff.png").stat().st_size > 10_000
    assert "of the sparse levels' cells" in capsys.readouterr().out


def test_a_metric_that_the_protocol_lacks_is_refused(model: nn.Module, dataset: DetectionDataset) -> None:
    found = measure_tradeoff(model, dataset, thresholds=[], protocol="aitod")
    with pytest.raises(ValueError, match=r"expected one of the protocol's metrics .*got 'APlarge'"):
        tradeoff_picture(found, "APlarge")


def test_the_chosen_threshold_is_in_the_written_checkpoint(
    model: nn.Module, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = save(model, tmp_path / "model"), tmp_path / "chosen"
    monkeypatch.setattr(
        "sys.argv", ["cascade_threshold", str(run), "--data", str(data), "--out", str(out), "--recall", "0.7"]
    )
    cascade_threshold.main()
    said = json.loads(capsys.readouterr().out)
    chosen = load(out)
    assert chosen.config.cascade.threshold == chosen.querying.cascade.threshold == said["threshold"] != 0.15
    assert said["recall"] >= 0.7
    for name, value in model.state_dict().items():
        assert torch.equal(chosen.state_dict()[name], value)


def test_a_training_ends_with_the_threshold_that_keeps_the_wanted_recall(data: Path, tmp_path: Path) -> None:
    experiment = with_changes(
        default_experiment("query_det_nano"),
        {
            "model": {"preprocessing": {"short_side": 64, "long_side": 64}, "cascade": {"threshold": "recall:0.9"}},
            "data": {"path": str(data), "train_split": "val"},
            "training": {"epochs": 1, "batch_size": 2},
        },
    )
    said: list[str] = []
    trained = run_experiment(experiment, tmp_path / "run", device="cpu", say=said.append)
    choice = json.loads((trained.best / "cascade_threshold.json").read_text())
    assert choice["recall"] >= 0.9
    assert load(trained.best).config.cascade.threshold == choice["threshold"]  # type: ignore[union-attr]
    assert read_experiment(tmp_path / "run" / "experiment.yaml").model.cascade.threshold == "recall:0.9"
    assert any("keeps" in line for line in said)


@pytest.mark.parametrize("word", ["recall", "recall:0", "recall:1.5", "recall:much", "precision:0.9"])
def test_other_words_for_a_threshold_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r'"recall:0\.99"'):
        CascadeConfig(threshold=word)


def test_a_recall_without_validation_images_is_refused_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    changes = {"model": {"cascade": {"threshold": "recall:0.9"}}}
    experiment = with_changes(default_experiment("query_det_nano"), changes)
    config = replace(experiment.data, path=str(data), train_split="val", validation_split=None)
    with pytest.raises(ValueError, match=r"data\.validation_split"):
        run_experiment(replace(experiment, data=config), tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_an_untrained_model_names_who_chooses_the_threshold() -> None:
    with pytest.raises(ValueError, match=r"cascade_threshold RUN --data DATA"):
        create_model("query_det_nano", num_classes=2, cascade={"threshold": "recall:0.9"})
