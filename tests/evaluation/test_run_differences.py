from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from smidgen.evaluation.run_differences import environment_differences, experiment_differences


def run_folder(path: Path, experiment: dict[str, object], environment: dict[str, object] | None = None) -> Path:
    (path / "best").mkdir(parents=True)
    (path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    if environment is not None:
        (path / "environment.json").write_text(json.dumps(environment))
    description = {"model": experiment["system"], "config": experiment["model"], "classes": {}}
    (path / "best" / "config.json").write_text(json.dumps(description))
    (path / "best" / "model.safetensors").touch()
    return path


def experiment(system: str = "dino_nano", seed: int = 1, **model: object) -> dict[str, object]:
    return {"system": system, "model": {"parts": {}, "width": 64, **model}, "training": {"seed": seed, "epochs": 4}}


def test_only_what_differs_is_named(tmp_path: Path):
    a = run_folder(tmp_path / "a", experiment(seed=1))
    b = run_folder(tmp_path / "b", experiment(seed=2, transformer={"layers": 3}))
    assert experiment_differences({"a": a, "b": b}) == {
        "training.seed": {"a": 1, "b": 2},
        "model.transformer.layers": {"b": 3},
    }
    assert experiment_differences({"a": a, "same": a / "best"}) == {}


def test_a_checkpoint_alone_is_asked_about_its_model_only(tmp_path: Path):
    a = run_folder(tmp_path / "a", experiment(width=64))
    b = run_folder(tmp_path / "b", experiment(width=96))
    (b / "experiment.yaml").unlink()
    assert experiment_differences({"a": a, "b": b}) == {"model.width": {"a": 64, "b": 96}}


def test_environments_without_the_time_they_began(tmp_path: Path):
    environments = [{"started": when, "packages": {"torch": torch}} for when, torch in ((1, "2.8"), (2, "2.9"))]
    runs = {str(i): run_folder(tmp_path / str(i), experiment(), one) for i, one in enumerate(environments)}
    assert environment_differences(runs) == {"packages.torch": {"0": "2.8", "1": "2.9"}}
    runs["none"] = run_folder(tmp_path / "none", experiment())
    assert environment_differences(runs) == {"packages.torch": {"0": "2.8", "1": "2.9"}}


def test_a_broken_file_is_named(tmp_path: Path):
    broken = run_folder(tmp_path / "a", experiment())
    (broken / "experiment.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"experiment\.yaml"):
        experiment_differences({"a": broken})
    (broken / "experiment.yaml").write_text("7")
    with pytest.raises(ValueError, match="expected fields and values"):
        experiment_differences({"a": broken})
