from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smidgen.recipes import Experiment
from smidgen.recipes.named import find_recipe, list_recipes, run_recipe
from smidgen.recipes.running import open_datasets


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


@pytest.mark.parametrize("system", ["lsq_detr_r50", "dq_detr_r50"])
@pytest.mark.parametrize(
    ("name", "thresholds", "protocol"),
    [
        ("lsq_detr.ai_tod_v2", (10, 100, 500), "aitod"),
        ("lsq_detr.visdrone", (10, 50, 100), "aitod"),
        ("lsq_detr.coco", (10, 100, 500), "coco"),
    ],
)
def test_counting_systems_train_as_their_code_says(
    name: str, system: str, thresholds: tuple[int, ...], protocol: str
) -> None:
    """24 epochs with drops after 13 and 23; only the backbone learns slower."""
    experiment = run_recipe(name, system=system)
    training = experiment.training
    assert (training.learning_rate, training.backbone_multiplier, training.offsets_multiplier) == (1e-4, 0.1, 1.0)
    assert (training.epochs, training.milestones, training.batch_size) == (24, (13, 23), 3)
    assert experiment.model.count_thresholds == thresholds and experiment.evaluation.protocol == protocol
    assert experiment.pretrained


def test_ai_tod_opens_as_it_is_distributed(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    for number, split in enumerate(("train", "val", "trainval", "test")):
        Image.fromarray(np.zeros((20, 20, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{split}.png")
        content = {
            "images": [{"id": number, "file_name": f"{split}.png", "width": 20, "height": 20}],
            "annotations": [{"id": 1, "image_id": number, "category_id": 8, "bbox": [2, 3, 6, 5], "iscrowd": 0}],
            "categories": [{"id": 8, "name": "wind-mill"}],
        }
        (tmp_path / "annotations" / f"aitodv2_{split}.json").write_text(json.dumps(content))
    datasets = open_datasets(run_recipe("lsq_detr.ai_tod_v2", data=tmp_path).data, say=lambda _: None)
    assert [record.file.name for record in datasets.training.records] == ["trainval.png"]
    assert datasets.validation is not None
    assert [record.file.name for record in datasets.validation.records] == ["test.png"]
