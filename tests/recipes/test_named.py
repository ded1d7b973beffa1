from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.recipes import Experiment
from smidgen.recipes.named import find_recipe, list_recipes, run_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_gives_an_experiment_on_the_data_given(name: str) -> None:
    experiment = run_recipe(name, system="dino_nano", data=Path("somewhere"))
    assert isinstance(experiment, Experiment)
    assert experiment.data.path == "somewhere" and experiment.system == "dino_nano"
    assert "smidgen " in (find_recipe(name).__doc__ or ""), "a recipe says how it is run"


def test_the_recipes_are_known_by_name() -> None:
    assert {"overfit16", "demo", "small_budget.deeppcb", "small_budget.aerial_cars"} <= set(list_recipes())


def test_overfitting_evaluates_the_images_it_learns() -> None:
    data = run_recipe("overfit16").data
    assert data.train_split == data.validation_split and data.first_images == 16
    assert data.augmentation.horizontal_flip == 0


@pytest.mark.parametrize("name", ["small_budget.deepcb", "nothing", "json:nothing", "no_such_module:recipe"])
def test_unknown_recipes(name: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        run_recipe(name)


def test_a_recipe_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_recipes.py").write_text(
        "from smidgen.recipes import default_experiment\ndef quick():\n    return default_experiment('dino_nano')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert run_recipe("my_recipes:quick").system == "dino_nano"
    with pytest.raises(ValueError, match="chooses its data itself"):
        run_recipe("my_recipes:quick", data=tmp_path)
