"""Suppression of a batch against torchvision's, image by image."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from smidgen.boxes.suppression import suppress


@given(st.integers(0, 25), st.integers(1, 3), st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 0.7]))
def test_as_torchvision_class_by_class(count: int, batch: int, seed: int, iou: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=generator) * 20
    boxes = torch.cat([corner, corner + 1 + torch.rand(batch, count, 2, generator=generator) * 19], dim=2)
    scores = torch.rand(batch, count, generator=generator)
    labels = torch.randint(3, (batch, count), generator=generator)
    kept = suppress(boxes, scores, labels, 3, iou)
    for image in range(batch):
        expected = batched_nms(boxes[image], scores[image], labels[image], iou)
        assert kept[image].nonzero()[:, 0].tolist() == sorted(expected.tolist())


def test_rows_with_a_negative_score_take_no_part() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 9.0, 9.0]] * 3])
    labels = torch.zeros(1, 3, dtype=torch.long)
    assert suppress(boxes, torch.tensor([[-1.0, 0.2, 0.1]]), labels, 1, 0.5).tolist() == [[False, True, False]]


def test_shape_is_known_without_values() -> None:
    boxes, scores = torch.empty(2, 5, 4, device="meta"), torch.empty(2, 5, device="meta")
    kept = suppress(boxes, scores, torch.empty(2, 5, dtype=torch.long, device="meta"), 3, 0.5)
    assert (kept.shape, kept.dtype) == (scores.shape, torch.bool)
