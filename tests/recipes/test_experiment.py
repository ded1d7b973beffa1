from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from smidgen.data import Augmentation
from smidgen.models import list_models
from smidgen.recipes import DataConfig, default_experiment, read_experiment, write_experiment
from smidgen.recipes.experiment import with_changes


@pytest.mark.parametrize("system", list_models())
def test_every_model_has_an_experiment_that_survives_the_file(system: str, tmp_path: Path) -> None:
    experiment = default_experiment(system)
    write_experiment(experiment, tmp_path / "experiment.yaml")
    assert read_experiment(tmp_path / "experiment.yaml") == experiment


def test_the_file_holds_every_field_and_only_plain_values(tmp_path: Path) -> None:
    changes = {"data": {"path": "scenes", "augmentation": {"short_sides": [320, 352]}}, "training": {"seed": 7}}
    experiment = with_changes(default_experiment("dino_nano"), changes)
    write_experiment(experiment, tmp_path / "e.yaml")
    document = yaml.safe_load((tmp_path / "e.yaml").read_text())
    assert document["system"] == "dino_nano"
    assert document["data"]["augmentation"]["short_sides"] == [320, 352]
    assert document["training"]["seed"] == 7 and "warmup_steps" in document["training"]
    assert read_experiment(tmp_path / "e.yaml") == experiment


def test_fields_left_out_of_a_file_have_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("system: dino_nano\nmodel:\n  num_queries: 33\n")
    default = default_experiment("dino_nano")
    assert read_experiment(tmp_path / "e.yaml") == replace(default, model=replace(default.model, num_queries=33))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system: dino_nan", "did you mean dino_nano"),
        ("system: dino_nano\ntraining:\n  epohcs: 3", "did you mean 'training.epochs'"),
        ("epochs: 3", "expected an experiment"),
        ("- 1", "expected an experiment"),
        ("a: [", "is no YAML"),
    ],
)
def test_mistakes_in_a_file_name_the_file(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as failure:
        read_experiment(tmp_path / "e.yaml")
    assert "e.yaml" in str(failure.value)


def test_the_system_is_not_changed_by_a_field() -> None:
    with pytest.raises(ValueError, match="as the MODEL instead"):
        with_changes(default_experiment("dino_nano"), {"system": "dino_r50"})


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.first_images"):
        DataConfig(first_images=0)
    with pytest.raises(ValueError, match="horizontal_flip"):
        with_changes(default_experiment("dino_nano"), {"data": {"augmentation": {"horizontal_flip": 2}}})


def test_augmentation_is_that_of_the_data_module() -> None:
    assert default_experiment("dino_nano").data.augmentation == Augmentation()
