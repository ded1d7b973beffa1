"""The counting experiment compares like with like, both counters learn in it, and what it found is written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smidgen.models import create_model
from smidgen.recipes.counting import (
    BOATS,
    COUNTERS,
    CountedMaps,
    CountingExperiment,
    compare_counters,
    counted_maps,
    counter_gmacs,
    guessing,
    trained_and_judged,
)

TINY = CountingExperiment(epochs={"categorical": 1, "light": 1})
THRESHOLDS = (3, 10, 30)


def _silent(line: str) -> None:
    """Nothing is said."""


def _maps_of_dots(number: int, seed: int) -> CountedMaps:
    """Maps of 8 noisy channels, whose first two show as many bright cells as there are objects."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor([1, 5, 18, 50]).repeat(number // 4)
    bright = torch.rand(number, 64, generator=generator).argsort(1).argsort(1) < counts[:, None]
    features = 0.3 * torch.randn(number, 8, 8, 8, generator=generator)
    features[:, :2] += 2 * bright.unflatten(1, (8, 8))[:, None]
    return CountedMaps(features, tuple(counts.tolist()))


@pytest.mark.parametrize("counting", COUNTERS)
def test_a_counter_learns_from_maps_what_guessing_does_not_know(counting: str) -> None:
    experiment = CountingExperiment(epochs={counting: 14}, learning_rates={counting: 3e-3})
    training, validation = _maps_of_dots(48, seed=1), _maps_of_dots(24, seed=2)
    result = trained_and_judged(experiment, counting, 0, training, validation, THRESHOLDS, _silent)
    chance = guessing(validation.counts, THRESHOLDS)
    assert result.accuracy > chance["best_constant_accuracy"] + 0.2
    assert result.class_error < chance["best_constant_class_error"] - 0.2


def test_the_seed_decides_weights_batches_and_symmetries() -> None:
    maps = _maps_of_dots(16, seed=1)
    losses = [
        trained_and_judged(TINY, "light", seed, maps, maps, THRESHOLDS, _silent).training_loss for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_guessing_among_four_equal_classes_is_right_for_a_quarter_and_best_near_the_middle() -> None:
    chance = guessing((1, 5, 20, 50), THRESHOLDS)
    assert chance == {
        "accuracy": 0.25,
        "class_error": 1.25,
        "best_constant_accuracy": 0.25,
        "best_constant_class_error": 1.0,
    }


def test_every_variant_and_seed_is_written_with_what_was_known_before(tmp_path: Path) -> None:
    training, validation = _maps_of_dots(8, seed=1), _maps_of_dots(4, seed=2)
    experiment = replace(TINY, seeds=(0, 1))
    results = compare_counters(experiment, training, validation, tmp_path, {"most_objects": 50}, _silent)
    assert [(result.seed, result.counting) for result in results] == [
        (seed, counting) for seed in (0, 1) for counting in ("categorical", "light")
    ]
    document = json.loads((tmp_path / "counting.json").read_text())
    assert document["thresholds"] == sorted(set(document["thresholds"])) and len(document["thresholds"]) == 3
    assert document["means"]["light"]["accuracy"] == (results[1].accuracy + results[3].accuracy) / 2
    first, second = (results[1].class_error - results[0].class_error, results[3].class_error - results[2].class_error)
    paired = document["light_minus_categorical"]
    assert paired["class_error"] == pytest.approx((first + second) / 2) and paired["low"] <= paired["high"]
    assert document["most_objects"] == 50 and len(document["results"]) == 4


def test_the_light_counter_costs_a_fiftieth() -> None:
    categorical, light = (counter_gmacs(COUNTERS[name](128), 128, (32, 32)) for name in ("categorical", "light"))
    assert 0 < light < 0.02 * categorical


def test_held_out_scenes_are_other_scenes_and_the_first_of_a_longer_series_stay_the_same() -> None:
    detector = create_model("dino_nano", num_classes=1).eval()
    scenes = replace(BOATS, size_wh=(64, 64), objects=(1, 60), classes=("person",), sceneries=("plaza",))
    two, three = (counted_maps(detector, scenes, number, seed=1) for number in (2, 3))
    other = counted_maps(detector, scenes, 2, seed=2)
    assert torch.equal(two.features, three.features[:2]) and two.counts == three.counts[:2]
    assert not torch.equal(two.features, other.features)
    assert two.features.shape == (2, 128, 8, 8) and not two.features.requires_grad
    assert all(1 <= count <= 60 for count in three.counts + other.counts)
