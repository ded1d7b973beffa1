"""A mosaic fills its canvas and never shrinks an object below its usual scale."""

from __future__ import annotations

import numpy as np
import torch
from dataset_cases import sample_of
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data import Augmentation
from smidgen.data.mosaic import mosaic
from smidgen.structures import Preprocessing

RULE = Preprocessing(short_side=40, long_side=60)
SIZE = st.tuples(st.integers(1, 120), st.integers(1, 120))


@given(st.lists(SIZE, min_size=4, max_size=4), st.integers(0, 2**31))
def test_mosaics_of_any_sizes(sizes: list[tuple[int, int]], seed: int) -> None:
    parts = [sample_of([[0, 0, width, height]], (height, width)) for height, width in sizes]
    for part in parts:
        part.image.fill_(200)
    whole = mosaic(parts, RULE, Augmentation(), np.random.default_rng(seed))
    assert whole.size_hw == RULE.resized_hw(*sizes[0])
    assert bool((whole.image == 200).all()), "no padding inside"
    limits = torch.tensor([whole.size_hw[1], whole.size_hw[0]] * 2)
    assert bool((whole.boxes_xyxy >= 0).all() and (whole.boxes_xyxy <= limits + 1e-3).all())
    areas = (whole.boxes_xyxy[:, 2:] - whole.boxes_xyxy[:, :2]).prod(1)
    torch.testing.assert_close(areas.sum(), torch.tensor(float(limits[0] * limits[1])), rtol=1e-4, atol=1e-2)


def test_objects_are_not_shrunk() -> None:
    parts = [sample_of([[50, 50, 54, 54]], (100, 150)) for _ in range(4)]
    around = Augmentation(crop_around_objects=1.0)
    for seed in range(20):
        whole = mosaic(parts, RULE, around, np.random.default_rng(seed))
        sides = whole.boxes_xyxy[:, 2:] - whole.boxes_xyxy[:, :2]
        assert len(whole.labels) == 4
        assert bool((sides > 1.4).all()), "4 px at the usual scale of 0.4 are 1.6 px"
