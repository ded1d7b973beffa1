"""The counting experiment compares like with like, and writes down what it found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smidgen.data.synthetic import SceneConfig
from smidgen.recipes.counting import CountingExperiment, CountingModel, rendered_splits, run_counting

TINY = CountingExperiment(
    scenes=SceneConfig(size_wh=(64, 64), side_px=(2.0, 5.0), objects=(1, 60), distractors=0),
    train_scenes=8,
    validation_scenes=4,
    seeds=(0,),
    steps=2,
)


def _silent(line: str) -> None:
    """Nothing is said."""


def test_both_counters_are_judged_on_the_same_scenes_and_light_costs_a_twentieth(tmp_path: Path) -> None:
    results = run_counting(TINY, tmp_path, _silent)
    assert [(result.counting, result.seed) for result in results] == [("categorical", 0), ("light", 0)]
    assert all(0 <= result.accuracy <= 1 and 0 <= result.class_error <= 3 for result in results)
    assert results[0].trunk_gmacs == pytest.approx(results[1].trunk_gmacs)
    assert results[1].gmacs < 0.05 * results[0].gmacs
    document = json.loads((tmp_path / "counting.json").read_text())
    assert document["thresholds"] == sorted(set(document["thresholds"])) and len(document["thresholds"]) == 3
    assert document["means"]["light"]["accuracy"] == results[1].accuracy
    assert document["experiment"]["steps"] == 2


def test_variants_start_from_the_same_trunk() -> None:
    models = []
    for counting in ("categorical", "light"):
        torch.manual_seed(3)
        models.append(CountingModel(TINY.trunk, counting, (1, 2, 3)))
    first, second = (
        {name: value for name, value in model.state_dict().items() if not name.startswith("counter")}
        for model in models
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_held_out_scenes_are_other_scenes_and_do_not_depend_on_how_many_are_learned_from() -> None:
    training, validation = rendered_splits(TINY, _silent)
    _, again = rendered_splits(replace(TINY, train_scenes=2), _silent)
    assert torch.equal(validation.pixels, again.pixels) and validation.counts == again.counts
    assert not torch.equal(training.pixels[:4], validation.pixels)
    assert all(1 <= count <= 60 for count in training.counts + validation.counts)
