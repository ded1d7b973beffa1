from __future__ import annotations

import numpy as np
import pytest
from observation_cases import observation
from pattern_cases import mixed

from smidgen.analysis.observation import Observation
from smidgen.analysis.pattern_usage import (
    count_pattern_usage,
    pattern_usage_picture,
    true_detections,
    why_no_patterns,
)

WEIGHTS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
SURE = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.9], [0.9, 0.9]]


def two_classes() -> Observation:
    return mixed(WEIGHTS, SURE, labels=[0, 1])


def test_true_detections_overlap_an_object_of_the_class_they_are_sure_of() -> None:
    found = true_detections(two_classes())
    assert found[0].tolist() == [[True, False], [False, True], [False, False], [False, False]]
    assert not found[1].any(), "image 1 has no object"
    unsure = mixed(WEIGHTS, [[0.5, 0.1], [0.9, 0.4], [0.9, 0.9], [0.9, 0.9]], labels=[1])
    assert not true_detections(unsure).any(), "a wrong class, or not above 0.5"


def test_usage_is_the_mean_over_rows_that_exist() -> None:
    usage = count_pattern_usage(two_classes())
    assert usage.rows == 6 and usage.usage.tolist() == [0.5, 0.5, 0.0], (
        "rows of padding and rows not asked are left out"
    )
    assert usage.effective == pytest.approx(2) and usage.inactive.tolist() == [False, False, True]


def test_classes_share_what_their_queries_are_mixed_from() -> None:
    apart = count_pattern_usage(two_classes())
    assert apart.by_class.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert apart.sharing.tolist() == [[1, 0], [0, 1]] and apart.to_json()["mean_sharing"] == 0
    same = count_pattern_usage(mixed([WEIGHTS[2]] * 4, SURE, labels=[0, 1]))
    assert same.to_json()["mean_sharing"] == pytest.approx(1)


def test_queries_at_work_are_those_with_a_score() -> None:
    usage = count_pattern_usage(mixed(WEIGHTS, [[0.9], [0.1], [0.2], [0.9]]))
    assert usage.working.tolist() == [2, 0, 0], "the second image's first row, too"
    assert usage.to_json()["gini_of_active_queries"] == pytest.approx(2 / 3)


def test_usage_of_batches_adds_up() -> None:
    one = count_pattern_usage(two_classes())
    both = one + one
    assert both.images == 4 and np.allclose(both.usage, one.usage) and both.true_rows.tolist() == [2, 2]
    assert both.to_json()["by_class"][0]["true_detections"] == 2
    with pytest.raises(ValueError, match="same classes"):
        _ = one + count_pattern_usage(mixed(WEIGHTS, [[0.9]] * 4))


def test_the_picture_has_a_row_per_class_that_was_found() -> None:
    picture = pattern_usage_picture(count_pattern_usage(two_classes()), ["car", "person"])
    labels = [label.get_text() for label in picture.figure.axes[1].get_yticklabels()]
    assert labels == ["car (1)", "person (1)"]
    assert "2.0 effective, 1 inactive" in picture.figure.get_suptitle()
    nothing = pattern_usage_picture(count_pattern_usage(mixed(WEIGHTS, [[0.1]] * 4)))
    assert len(nothing.figure.axes) == 1 and nothing.data["by_class"] == []


def test_a_model_without_patterns_says_so() -> None:
    assert "not mixed from patterns" in (why_no_patterns(observation()) or "")
    assert why_no_patterns(two_classes()) is None
    with pytest.raises(ValueError, match="PatternWeights"):
        count_pattern_usage(observation())
