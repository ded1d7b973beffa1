"""Advice follows planted distributions, its bounds are monotone, and its settings exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smidgen.analysis.dataset_advice import Advice, advise
from smidgen.analysis.dataset_advice.advice import first_good, percent
from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.statistics.sizes import SIZE_BINS
from smidgen.evaluation.protocol import load_protocol
from smidgen.recipes.experiment import default_experiment
from smidgen.recipes.overrides import changed, parse_overrides
from smidgen.structures import Classes, Preprocessing


def planted(side_px: float, objects: int, images: int = 3, size_px: int = 800) -> DetectionDataset:
    """Squares of one size on a grid."""
    steps = int(np.ceil(objects**0.5))
    places = np.array([(x, y) for x in range(steps) for y in range(steps)][:objects]).reshape(-1, 2)
    corners = places * (size_px // max(steps, 1)) + 1.0
    boxes = np.concatenate([corners, corners + side_px], axis=1).astype(np.float32)
    nothing = np.zeros((0, 4), np.float32)
    records = [
        Record(Path(f"{number}.png"), number, (size_px, size_px), boxes, np.zeros(objects, np.int64), nothing)
        for number in range(images)
    ]
    return DetectionDataset(Path("planted"), "made", "train", Classes(("car",), (1,)), records)


def advice_on(dataset: DetectionDataset) -> dict[str, Advice]:
    return {piece.topic: piece for piece in advise(dataset, Preprocessing())}


def test_tiny_objects_want_resolution_and_large_ones_do_not() -> None:
    tiny, large = advice_on(planted(5, 16)), advice_on(planted(64, 16))
    assert tiny["input_size"].choice.name == "1280 x 2133"  # 5 px become 8
    assert large["input_size"].choice.name == "320 x 533"
    assert tiny["finest_stride"].choice.name == "stride 4" and large["finest_stride"].choice.name == "stride 16"
    assert tiny["tiles"].choice.name == "400 px" and large["tiles"].choice.name == "whole image"
    assert "enlarge the input" in tiny["anchors"].sentence and large["anchors"].choice.name == "anchors from P3"
    assert advice_on(planted(12, 16))["anchors"].choice.name == "anchors from P2"  # of 16 px and more


def test_a_crowd_of_thousand_wants_the_largest_budget() -> None:
    budget = advice_on(planted(8, 1000))["budget"]
    assert [choice.bound for choice in budget.choices] == [0.1, 0.3, 0.5, 0.9, 1.0]
    assert budget.choice.settings == ("model.num_queries=1500", "model.num_detections=1500")
    assert advice_on(planted(8, 20))["budget"].choice.name == "100 queries"


def test_derived_quotas_beat_the_paper_where_objects_are_large() -> None:
    quotas = advice_on(planted(70, 64))["quotas"]
    bounds = {choice.name: choice.bound for choice in quotas.choices}
    assert quotas.choice.name == "auto" and bounds["auto"] == 1
    assert bounds["paper"] == 0  # objects of 70 px belong to stride 16, which the paper's quotas leave out


def test_bounds_rise_with_size_and_budget() -> None:
    found = advice_on(planted(6, 200))
    for topic in ("input_size", "budget", "suppression", "anchors"):
        bounds = [choice.bound for choice in found[topic].choices]
        assert bounds == sorted(bounds), topic


@pytest.mark.parametrize(
    "topic", ["input_size", "finest_stride", "tiles", "budget", "quotas", "suppression", "anchors"]
)
def test_every_setting_is_a_field_of_its_system(topic: str) -> None:
    piece = advice_on(planted(6, 50))[topic]
    experiment = default_experiment(piece.system)
    for choice in piece.choices:
        assert changed(experiment, parse_overrides(choice.settings)) is not None
        assert len(choice.figures) == len(piece.columns)
    assert piece.command.count("--set") == len(piece.choice.settings)


@pytest.mark.parametrize("images", [0, 2])
def test_without_objects_there_is_no_advice(images: int) -> None:
    assert advise(planted(8, 0, images=images), Preprocessing()) == ()


def test_the_first_choice_that_is_good_enough() -> None:
    assert first_good([0.5, 0.985, 0.99, 0.98]) == 1
    assert [percent(share) for share in (0.0, 0.0001, 0.5, 0.9999, 1.0)] == [
        "0 %",
        "0.1 %",
        "50.0 %",
        "99.9 %",
        "100 %",
    ]


@pytest.mark.parametrize("name", sorted(SIZE_BINS))
def test_size_bins_are_those_of_the_protocols(name: str) -> None:
    areas = dict(load_protocol(name).areas)
    areas.pop("all")
    assert {label: low**0.5 for label, (low, _) in areas.items()} == dict(SIZE_BINS[name])
