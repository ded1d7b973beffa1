from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.analysis.found_objects import found_objects
from smidgen.boxes import pairwise_iou


def one_after_the_other(
    boxes: torch.Tensor, labels: torch.Tensor, detected: torch.Tensor, classes: torch.Tensor
) -> list[bool]:
    """pycocotools' loop: the best detection first, each to the free object that it overlaps most."""
    overlaps, found = pairwise_iou(detected.double(), boxes.double()), [False] * len(boxes)
    for detection, label in enumerate(classes.tolist()):
        best, chosen = 0.5, None
        for number, own in enumerate(labels.tolist()):
            if not found[number] and own == label and overlaps[detection, number] >= best:
                best, chosen = float(overlaps[detection, number]), number
        if chosen is not None:
            found[chosen] = True
    return found


@given(st.integers(0, 12), st.integers(0, 8), st.integers(0, 10_000))
def test_it_is_the_loop_over_detections_at_once(detections: int, objects: int, seed: int) -> None:
    torch.manual_seed(seed)
    # Whole numbers make ties; small displacements of one box make rivals.
    boxes, detected = (
        torch.tensor([8.0, 8.0, 20.0, 20.0]) + torch.randint(-3, 4, (number, 4)) for number in (objects, detections)
    )
    labels, classes = (torch.randint(0, 2, (number,)) for number in (objects, detections))
    expected = one_after_the_other(boxes, labels, detected, classes)
    assert found_objects(boxes, labels, detected, classes, 0.5).tolist() == expected


def test_a_refused_detection_takes_the_next_object() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [3.0, 0.0, 13.0, 10.0]])
    label = torch.zeros(2, dtype=torch.long)
    assert found_objects(boxes, label, boxes[[0, 0]], label, 0.5).all()
    assert found_objects(boxes, label, boxes[[0, 0]] + 20, label, 0.5).tolist() == [False, False]
