from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from observation_cases import observation, token_of

from smidgen.analysis.observation import Observation
from smidgen.analysis.query_activation import (
    activation_chart,
    active_by_rank,
    active_by_score,
    active_fraction,
    count_activations,
    entropy,
    gini,
    pareto_share,
)
from smidgen.structures import DetectorOutput

COUNTS = st.lists(st.integers(0, 5000), min_size=1, max_size=60)
OBJECT = [8.0, 8.0, 12.0, 12.0]


@settings(max_examples=60, deadline=None)
@given(COUNTS)
def test_gini_is_the_mean_absolute_difference_over_twice_the_mean(counts: list[int]) -> None:
    values = np.array(counts, dtype=float)
    expected = np.abs(values[:, None] - values).mean() / (2 * values.mean()) if values.any() else 0.0
    assert gini(counts) == pytest.approx(expected, abs=1e-12)
    assert 0 <= gini(counts) < 1


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_gini_knows_neither_scale_nor_order(counts: list[int], factor: float, random: object) -> None:
    shuffled = list(counts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert gini(shuffled) == gini(counts)
    assert gini(np.array(counts) * factor) == pytest.approx(gini(counts), abs=1e-12)


@pytest.mark.parametrize("number", [1, 2, 7, 900])
def test_gini_of_the_extremes(number: int) -> None:
    one_hot = np.eye(number)[0] * 3
    assert gini(np.zeros(number)) == 0 and gini(np.full(number, 0.1)) == pytest.approx(0, abs=1e-12)
    assert gini(one_hot) == pytest.approx((number - 1) / number)
    assert entropy(one_hot) == 0 and entropy(np.ones(number)) == pytest.approx(math.log(number))
    assert active_fraction(one_hot) == 1 / number
    assert gini([]) == entropy([]) == active_fraction([]) == pareto_share([]) == 0


def test_pareto_share_is_of_the_floor_of_a_fifth() -> None:
    assert pareto_share([1, 1, 1, 1]) == 0, "floor(0.2 * 4) rows are none"
    assert pareto_share([0, 6, 1, 1, 1, 1]) == 0.6


def test_a_score_must_exceed_the_threshold() -> None:
    scores = torch.tensor([[[0.3, 0.1], [0.1, 0.3000001], [-1.0, -1.0]]])
    assert active_by_score(scores).tolist() == [[False, True, False]]


def test_the_best_detections_make_their_rows_active() -> None:
    scores = torch.tensor([[[0.9, 0.8], [0.7, 0.1], [0.6, 0.2], [-1.0, -1.0]]])
    assert active_by_rank(scores, 3).tolist() == [[True, True, False, False]]
    assert active_by_rank(scores, 100).tolist() == [[True, True, True, False]], "a row of padding is in no detection"


def seen() -> Observation:
    """Row 0 (stride 8) says OBJECT with a score of 0.5, row 1 (stride 16) is unsure, row 2 is padding."""
    found = observation(
        boxes=[OBJECT],
        query_tokens=[token_of(0, 1, 1), token_of(1, 1, 1), token_of(0, 0, 0)],
        query_boxes=[OBJECT, [40.0, 40.0, 60.0, 60.0], OBJECT],
        query_padding=[False, False, True],
    )
    logits = torch.tensor([[[0.0], [-4.0], [9.0]]]).expand(2, -1, -1)
    final = replace(found.output.final, logits=logits)
    return replace(found, output=replace(found.output, final=final, auxiliary=(final,)))


def test_rows_are_counted_by_each_definition() -> None:
    counts = count_activations(seen())
    assert counts.existing.tolist() == [2, 2, 0]
    assert counts.active["score"].tolist() == [2, 0, 0], "padding is not active, however sure it is"
    assert counts.active["matched"].tolist() == [1, 0, 0], "image 1 has no object"
    assert counts.active["topk"].tolist() == [2, 2, 0]
    assert counts.matched_by_layer.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert counts.counts("score").tolist() == [2, 0], "rows that never exist have no part in a Gini"


def test_rows_are_grouped_by_the_level_of_their_proposal() -> None:
    values = count_activations(seen()).to_json()["by_level"]
    assert values["queries"] == [2, 2] and values["active"]["score"] == [2, 0]
    assert values["gini_over_levels"] == {"score": 0.5, "matched": 0.5, "topk": 0.0}


def test_counts_of_batches_add_up_also_with_other_numbers_of_rows() -> None:
    one = count_activations(seen())
    short = count_activations(observation(boxes=[OBJECT]))
    both = one + one
    assert both.images == 4 and both.active["score"].tolist() == [4, 0, 0]
    with pytest.raises(ValueError, match="layers"):
        _ = one + short
    joined = one + replace(short, matched_by_layer=np.stack([short.active["matched"]] * 2))
    assert joined.existing.tolist() == [4, 4, 0] and joined.active["matched"].sum() == 2


def test_learned_queries_have_no_levels() -> None:
    found = seen()
    counts = count_activations(replace(found, output=DetectorOutput(found.output.final)))
    assert counts.strides == () and counts.to_json()["by_level"] is None
    assert "learned places" in activation_chart(counts).figure.axes[3].texts[0].get_text()


def test_the_picture_names_the_gini_of_every_definition() -> None:
    counts = count_activations(seen())
    picture = activation_chart(counts)
    legend = [text.get_text() for text in picture.figure.axes[1].get_legend().get_texts()]  # type: ignore[union-attr]
    assert any("0.3: Gini 0.50" in words for words in legend) and picture.data == counts.to_json()


def test_rows_that_few_images_have_are_judged_by_those_images() -> None:
    """A budget of one query where there is one object: row 1 is as busy as row 0 wherever it exists."""
    counts = replace(
        count_activations(seen()),
        images=4,
        existing=np.array([4, 1, 0]),
        active={name: np.array([4, 1, 0]) for name in ("score", "matched", "topk")},
        matched_by_layer=np.array([[4, 0, 0], [4, 1, 0]]),
    )
    assert counts.rates("matched").tolist() == [1, 1] and counts.layer_rates().tolist() == [[1, 0], [1, 1]]
    values = counts.to_json()
    assert values["definitions"]["matched"]["gini"] == 0 and values["definitions"]["matched"]["counts"] == [4, 1]
    assert [layer["gini"] for layer in values["matched_by_layer"]] == [0.5, 0]
    assert [layer["matched"] for layer in values["matched_by_layer"]] == [4, 5]
