from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from observation_cases import observation

from smidgen.analysis.detection_counts import DetectionCounts, count_detections, detection_count_chart

OBJECT = [8.0, 8.0, 12.0, 12.0]


def counts(scores: list[list[float]], thresholds: tuple[float, ...] = (0.2, 0.5)) -> DetectionCounts:
    """One object in image 0, none in image 1; the last of three rows is padding."""
    found = observation(
        boxes=[OBJECT], query_tokens=range(3), query_boxes=[OBJECT] * 3, query_padding=[False, False, True]
    )
    final = replace(found.output.final, logits=torch.tensor(scores).logit()[:, :, None])
    return count_detections(replace(found, output=replace(found.output, final=final)), thresholds)


def test_detections_are_counted_from_the_threshold_on() -> None:
    found = counts([[0.5, 0.3, 0.9], [0.3, 0.1, 0.9]])
    assert found.objects.tolist() == [1, 0]
    assert found.detections.tolist() == [[2, 1], [1, 0]], "rows of padding are no detections"
    assert found.mean_error.tolist() == [1.0, 0.0] and found.best_threshold == 0.5


def test_counts_of_batches_are_put_together() -> None:
    one = counts([[0.6, 0.3, 0.9], [0.3, 0.1, 0.9]])
    both = (one + one).to_json()
    assert both["images"] == 4 and both["objects"] == 2
    assert both["by_threshold"] == one.to_json()["by_threshold"]
    with pytest.raises(ValueError, match="same thresholds"):
        _ = one + counts([[0.6, 0.3, 0.9], [0.3, 0.1, 0.9]], (0.3,))


def test_too_few_and_too_many_are_both_mistakes() -> None:
    assert counts([[0.1, 0.1, 0.9], [0.9, 0.1, 0.9]]).mean_error.tolist() == [1.0, 1.0]


def test_the_picture_names_the_best_threshold() -> None:
    found = counts([[0.6, 0.3, 0.9], [0.3, 0.1, 0.9]])
    picture = detection_count_chart(found)
    assert "a score of 0.5" in picture.figure.axes[0].get_title() and picture.data == found.to_json()
