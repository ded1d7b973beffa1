"""From predictions to detections in original pixels."""

from __future__ import annotations

import torch

from smidgen.decoder.readout import TopScoring
from smidgen.structures import Classes, DetectorOutput, Predictions

CLASSES = Classes(("car", "person"), (7, 3))


def _output(padding: torch.Tensor | None = None) -> DetectorOutput:
    logits = torch.tensor([[[2.0, -1.0], [0.0, 3.0], [9.0, 9.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.1, 0.1]]])
    return DetectorOutput(Predictions(logits, boxes, padding))


def test_best_pairs_of_query_and_class_come_first_in_original_pixels() -> None:
    missing = torch.tensor([[False, False, True]])
    (found,) = TopScoring(3)(_output(missing), [(100, 200)], CLASSES)
    assert found.labels.tolist() == [1, 0, 0]
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 2.0, 0.0]).sigmoid())
    torch.testing.assert_close(found.boxes_xyxy[1], torch.tensor([80.0, 30.0, 120.0, 70.0]))
    assert found.to_coco()[0]["category_id"] == 3


def test_boxes_are_cut_at_the_border_unless_parity_wants_them_whole() -> None:
    missing = torch.tensor([[True, False, True]])
    (cut,) = TopScoring(1)(_output(missing), [(100, 200)], CLASSES)
    (whole,) = TopScoring(1, clip=False)(_output(missing), [(100, 200)], CLASSES)
    assert cut.boxes_xyxy.tolist() == [[0.0, 0.0, 50.0, 25.0]]
    assert whole.boxes_xyxy.tolist() == [[-50.0, -25.0, 50.0, 25.0]]


def test_queries_that_do_not_exist_answer_nothing() -> None:
    (found,) = TopScoring(300)(_output(torch.tensor([[False, True, True]])), [(10, 10)], CLASSES)
    assert len(found) == 2
