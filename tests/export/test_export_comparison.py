"""Sets of detections: order does not matter, everything else does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.export.comparison import Tolerance, difference, total
from smidgen.structures import Detections

STRICT = Tolerance(share=0.0)


def detections(count: int, seed: int = 0) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 80
    boxes = torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 19], dim=1)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    return Detections(boxes, scores, torch.randint(3, (count,), generator=generator), (100, 100))


@given(st.integers(1, 30), st.integers(0, 99))
def test_order_does_not_matter(count: int, seed: int) -> None:
    expected = detections(count, seed)
    found = expected[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
    same = difference(expected, found, STRICT)
    assert same.within(STRICT)
    assert (same.pairs, same.worst_box, same.worst_score) == (count, 0.0, 0.0)


@pytest.mark.parametrize("what", ["moved", "relabeled", "rescored", "left out", "added"])
def test_one_wrong_detection_is_found(what: str) -> None:
    expected = found = detections(20)
    first = torch.arange(20) == 0
    if what == "moved":
        found = replace(expected, boxes_xyxy=expected.boxes_xyxy + first[:, None] * 0.5)
    elif what == "relabeled":
        found = replace(expected, labels=(expected.labels + first) % 3)
    elif what == "rescored":
        found = replace(expected, scores=expected.scores - first * 0.01)
    elif what == "left out":
        found = expected[~first]
    else:
        expected = found[~first]
    apart = difference(expected, found, STRICT)
    assert not apart.within(STRICT)
    assert apart.missing + apart.surplus == (1 if what in ("left out", "added") else 2)


def test_a_few_of_many_may_differ() -> None:
    expected = detections(200)
    assert difference(expected, expected[torch.arange(200) != 5], Tolerance()).within(Tolerance())
    assert not difference(expected, expected[torch.arange(200) > 5], Tolerance()).within(Tolerance())


def test_a_tie_at_the_end_of_the_list_is_no_difference() -> None:
    both = detections(11)
    both = replace(both, scores=both.scores.clone().index_fill(0, torch.tensor([9, 10]), float(both.scores[9])))
    expected, found = both[torch.arange(11) != 9], both[torch.arange(11) != 10]
    assert difference(expected, found, STRICT).within(STRICT)


def test_nothing_compared_is_not_the_same() -> None:
    nothing = detections(0)
    assert not difference(nothing, nothing, Tolerance()).within(Tolerance())
    assert not difference(nothing, detections(3), Tolerance()).within(Tolerance())


def test_total_adds_up() -> None:
    parts = [difference(detections(5), detections(5), STRICT), difference(detections(4), detections(3), STRICT)]
    whole = total(parts)
    assert whole.pairs == sum(part.pairs for part in parts)
    assert whole.missing == sum(part.missing for part in parts)
