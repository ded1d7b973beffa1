from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from observation_cases import observation

from smidgen.analysis.observation import Observation
from smidgen.analysis.score_by_size import score_by_size_chart, scores_by_size

BOXES = [[0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 16.0, 16.0], [0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 4.0, 4.0]]


def seen(scores: list[list[float]]) -> Observation:
    """Both images have the same queries; the last row of BOXES is padding. Image 1 is half as large as image 0."""
    found = observation(query_tokens=range(4), query_boxes=BOXES, query_padding=[False, False, False, True])
    final = replace(found.output.final, logits=torch.tensor(scores).logit().expand(2, -1, -1))
    return replace(found, output=replace(found.output, final=final))


def test_means_are_over_detections_of_the_size_that_are_sure_enough() -> None:
    scores = scores_by_size(seen([[0.5, 0.7], [0.39, 0.41], [0.9, 0.1], [0.9, 0.9]]))
    rows = {row["size"]: row for row in scores.to_json()["by_size"]}
    assert rows["below 8 px"]["detections"] == 2 * 2 + 1, "two classes in two images, and image 1's box of 4 x 4 px"
    assert rows["8 - 16 px"] == {"size": "8 - 16 px", "detections": 1, "mean_score": pytest.approx(0.41)}
    assert rows["32 - 96 px"]["mean_score"] == pytest.approx(0.9), "40 px in image 0, 20 px in image 1"
    assert rows["16 - 32 px"]["detections"] == 1 and rows["96 px and more"]["mean_score"] is None


def test_scores_of_batches_add_up() -> None:
    one = scores_by_size(seen([[0.5], [0.6], [0.1], [0.9]]))
    both = one + one
    assert both.images == 4 and both.detections.tolist() == (2 * one.detections).tolist()
    assert both.to_json()["by_size"] != one.to_json()["by_size"]
    with pytest.raises(ValueError, match="same least score"):
        _ = one + scores_by_size(seen([[0.5], [0.6], [0.1], [0.9]]), 0.5)


def test_bars_are_as_high_as_the_means() -> None:
    scores = scores_by_size(seen([[0.5], [0.6], [0.1], [0.9]]))
    picture = score_by_size_chart(scores)
    heights = [bar.get_height() for bar in picture.figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights[:2] == [pytest.approx(value) for value in scores.mean[:2]] and heights[2:] == [0, 0, 0]
    assert picture.data == scores.to_json()


def test_a_model_that_is_sure_of_nothing_has_an_empty_chart() -> None:
    texts = score_by_size_chart(scores_by_size(seen([[0.1]] * 4))).figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["none"] * 5
