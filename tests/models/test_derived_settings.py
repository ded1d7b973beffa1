"""Quotas and thresholds that follow from a dataset's sizes and counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.models.derived_settings import (
    derived_quotas,
    derived_thresholds,
    levels_of_objects,
    memory_strides,
    open_fields,
    remarks,
    resolved,
)
from smidgen.recipes.experiment import Experiment, as_plain
from smidgen.recipes.running import derived
from smidgen.structures import Classes, Preprocessing

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class _Backbone:
    strides: tuple[int, ...] = (4, 8, 16)


@dataclass(frozen=True)
class _Settings:
    """The fields of a system with a stratified selection."""

    backbone: _Backbone = field(default_factory=_Backbone)
    num_levels: int = 4
    budgets: tuple[int, ...] = (100, 400)
    quotas: Any = "auto"
    count_thresholds: Any = "auto"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def test_an_object_belongs_to_the_coarsest_level_that_sees_its_side_in_four_cells():
    sides_px = np.array([1, 15.9, 16, 31.9, 32, 63.9, 64, 127.9, 128, 900])
    assert levels_of_objects(sides_px, STRIDES).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_shares_follow_the_histogram_and_none_goes_to_empty_levels():
    sides_px = np.array([3.0] * 90 + [40.0] * 10)
    shares = derived_quotas(sides_px, STRIDES, [1_000_000])[1_000_000]
    assert shares == pytest.approx((0.9, 0.1, 0, 0), abs=1e-4)


def test_the_smaller_the_budget_the_larger_the_least_share():
    sides_px = np.array([3.0] * 9999 + [200.0])
    quotas = derived_quotas(sides_px, STRIDES, [30, 300, 1500])
    assert [shares[3] for shares in quotas.values()] == pytest.approx([0.5, 20 / 300, 20 / 1500], abs=1e-3)


@given(
    st.lists(st.floats(0.1, 2000), min_size=1, max_size=30),
    st.lists(st.integers(1, 3000), min_size=1, max_size=4, unique=True),
)
def test_shares_add_up_and_every_level_with_objects_gets_some(sides, budgets):
    sides_px = np.array(sides)
    occupied = set(levels_of_objects(sides_px, STRIDES).tolist())
    for budget, shares in derived_quotas(sides_px, STRIDES, budgets).items():
        assert sum(shares) == pytest.approx(1, abs=1e-9) and len(shares) == len(STRIDES)
        least = min(20, budget / len(occupied))
        assert {level for level, share in enumerate(shares) if share > 0} == occupied
        assert all(shares[level] * budget >= least - 2e-4 * budget for level in occupied)


def test_thresholds_split_images_into_equal_parts():
    assert derived_thresholds(np.arange(100), 4) == (25, 50, 75)


def test_thresholds_of_tied_counts_still_ascend():
    assert derived_thresholds(np.full(8, 5), 4) == (5, 6, 7)
    assert derived_thresholds(np.zeros(8, dtype=int), 4) == (1, 2, 3)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=50), st.integers(2, 6))
def test_thresholds_ascend_from_one_on(counts, num_classes):
    thresholds = derived_thresholds(np.array(counts), num_classes)
    assert len(thresholds) == num_classes - 1 and thresholds[0] >= 1
    assert all(low < high for low, high in pairwise(thresholds))


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=50),
    st.lists(st.integers(4, 1500), min_size=2, max_size=5, unique=True).map(sorted),
)
def test_perfect_counting_starves_no_image_but_those_above_the_largest_budget(counts, budgets):
    counts = np.array(counts)
    thresholds = derived_thresholds(counts, len(budgets), budgets)
    assert thresholds[0] >= 1 and all(low < high for low, high in pairwise(thresholds))
    given_queries = np.array(budgets)[np.searchsorted(thresholds, counts, side="right")]
    assert (given_queries >= np.minimum(counts, budgets[-1])).all()


def test_budgets_limit_thresholds_only_where_they_are_too_small():
    counts = np.arange(0, 400, 4)
    assert derived_thresholds(counts, 4, (300, 500, 900, 1500)) == derived_thresholds(counts, 4)
    assert derived_thresholds(counts, 4, (50, 250, 280, 390)) == (50, 198, 280)
    assert derived_thresholds(counts, 3, (50, 50, 60)) == (49, 50)


def test_the_remarks_name_limited_thresholds_and_images_above_the_largest_budget():
    counts = np.array([5, 5, 5, 450])
    assert remarks(_Settings(), counts) == (
        "25.0% of the images hold more objects than the largest of model.budgets, 400",
    )
    (limited,) = remarks(_Settings(budgets=(3, 500)), counts)
    assert "limited by model.budgets" in limited
    assert remarks(_Settings(budgets=(100, 500)), counts) == ()
    assert remarks(_Settings(count_thresholds=(7,)), counts) == ()


@given(st.lists(st.integers(0, 10_000), min_size=8, max_size=60, unique=True))
def test_without_ties_every_class_holds_its_share_of_the_images(counts):
    classes = np.searchsorted(derived_thresholds(np.array(counts), 4), counts, side="right")
    share = np.bincount(classes, minlength=4) / len(counts)
    # Rounding up can leave an image or two on the other side of each threshold.
    assert np.abs(share - 0.25).max() <= 2.5 / len(counts) + 0.01


def test_auto_fields_are_replaced_and_others_kept():
    sides_px, counts = np.array([3.0, 3.0, 100.0]), np.array([1, 9])
    config = resolved(_Settings(), sides_px, counts)
    assert set(config.quotas) == {100, 400} and len(config.quotas[100]) == 4
    assert config.count_thresholds == (5,)
    kept = _Settings(quotas={100: (1.0,)}, count_thresholds=(7,))
    assert resolved(kept, sides_px, counts) is kept
    assert open_fields(_Settings(quotas="paper")) == ("count_thresholds",)


def test_a_run_says_what_it_derived_and_keeps_it_in_its_experiment():
    image = Record(
        Path("a.png"),
        image_id=1,
        size_hw=(100, 200),
        boxes_xyxy=np.array([[0, 0, 3, 3], [5, 5, 45, 45]], dtype=np.float32),
        labels=np.zeros(2, dtype=np.int64),
        ignore_xyxy=np.zeros((0, 4), dtype=np.float32),
    )
    dataset = DetectionDataset(Path("set"), "coco", "train", Classes.numbered(1), (image,))
    said: list[str] = []
    experiment = Experiment(system="stratified", model=_Settings(preprocessing=Preprocessing(short_side=100)))
    experiment = derived(experiment, dataset, said.append)
    # Side 3 belongs to stride 4, side 40 to stride 8.
    assert experiment.model.quotas[400] == pytest.approx((0.5, 0.5, 0, 0))
    assert experiment.model.count_thresholds == (2,)
    assert len(said) == 1 and "model.quotas" in said[0] and "model.count_thresholds = (2,)" in said[0]
    assert as_plain(experiment)["model"]["quotas"] == {100: [0.5, 0.5, 0, 0], 400: [0.5, 0.5, 0, 0]}
    assert derived(experiment, dataset, said.append) is experiment and len(said) == 1


def test_a_system_without_such_fields_is_left_alone():
    config = _Backbone()
    assert open_fields(config) == () and resolved(config, np.zeros(0), np.zeros(0, dtype=int)) is config


def test_memory_levels_beyond_the_backbone_halve_the_last_map():
    assert memory_strides(_Settings()) == (4, 8, 16, 32)


def test_without_data_there_is_nothing_to_derive_from():
    with pytest.raises(ValueError, match=r"model\.quotas"):
        derived_quotas(np.zeros(0), STRIDES, [100])
    with pytest.raises(ValueError, match=r"model\.count_thresholds"):
        derived_thresholds(np.zeros(0, dtype=int), 4)
