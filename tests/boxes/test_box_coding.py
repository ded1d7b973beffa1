"""Deltas and distances say where a box is, and can be read back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smidgen.boxes import cxcywh_to_xyxy
from smidgen.boxes.box_coding import decode_deltas, decode_distances, encode_deltas, encode_distances

CENTER = st.floats(0, 2000)
SIDE = st.floats(1, 500)
BOX = st.tuples(CENTER, CENTER, SIDE, SIDE)


def corners(box: tuple[float, ...]) -> Tensor:
    return cxcywh_to_xyxy(torch.tensor([box], dtype=torch.float64))


@given(BOX, BOX, st.sampled_from([(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]))
def test_deltas_lead_back_to_the_box(
    anchor: tuple[float, ...], box: tuple[float, ...], weights: tuple[float, float, float, float]
) -> None:
    if max(box[2] / anchor[2], box[3] / anchor[3]) < 1000 / 16:
        deltas = encode_deltas(corners(anchor), corners(box), weights)
        torch.testing.assert_close(decode_deltas(corners(anchor), deltas, weights), corners(box), atol=1e-6, rtol=1e-6)


@given(BOX, CENTER, CENTER)
def test_distances_lead_back_to_the_box(box: tuple[float, ...], x: float, y: float) -> None:
    point = torch.tensor([[x, y]], dtype=torch.float64)
    distances = encode_distances(point, corners(box))
    torch.testing.assert_close(decode_distances(point, distances), corners(box))


def test_deltas_are_shifts_in_anchor_sizes_and_logs_of_size_ratios() -> None:
    deltas = encode_deltas(torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 0.0, 25.0, 20.0]]))
    torch.testing.assert_close(deltas, torch.tensor([[1.0, 0.0, math.log(2), 0.0]]))


def test_a_wild_output_stays_finite() -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = decode_deltas(anchor, torch.tensor([[0.0, 0.0, 1000.0, 1000.0]]))
    assert box[0, 2] - box[0, 0] == pytest.approx(1000), "sides are at most 62.5 times the anchor's"


def test_a_box_without_extent_has_finite_deltas() -> None:
    assert encode_deltas(torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([[4.0, 4.0, 4.0, 4.0]])).isfinite().all()
