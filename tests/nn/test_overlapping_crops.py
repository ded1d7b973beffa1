"""Crops cover a map once or twice per axis, end where it ends, and put it together again without a trace."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smidgen.nn.overlapping_crops import CropPlan, OverlappingCrops, Rounding

ROUNDINGS = st.sampled_from(["exact", "half_even"])
LENGTHS = st.integers(1, 40)
SIZES = st.integers(1, 16)

# Axis and crop of maps of 800 and 1333 px images: crops, cells shared, cells shared by the last two, beginnings.
EXACT = {
    (200, 56): (8, 8, [0, 48, 96, 144]),
    (333, 56): (0, 3, [0, 56, 112, 168, 224, 277]),
    (320, 56): (3, 4, [0, 53, 106, 159, 212, 264]),
    (100, 28): (4, 4, [0, 24, 48, 72]),
    (166, 28): (0, 2, [0, 28, 56, 84, 112, 138]),
    (50, 14): (2, 2, [0, 12, 24, 36]),
    (80, 14): (0, 4, [0, 14, 28, 42, 56, 66]),
    (25, 7): (1, 1, [0, 6, 12, 18]),
    (40, 7): (0, 2, [0, 7, 14, 21, 28, 33]),
    (42, 14): (0, 0, [0, 14, 28]),
    (56, 56): (0, 0, [0]),
    (5, 56): (0, 0, [0]),
}
HALF_EVEN = {(42, 14): (4, 6, [0, 10, 20, 28]), (25, 7): (0, 3, [0, 7, 14, 18]), (56, 56): (0, 0, [0])}


@pytest.mark.parametrize(
    ("rounding", "axis", "expected"),
    [("exact", *row) for row in EXACT.items()] + [("half_even", *row) for row in HALF_EVEN.items()],
)
def test_plans_are_the_worked_ones(
    rounding: Rounding, axis: tuple[int, int], expected: tuple[int, int, list[int]]
) -> None:
    plan = CropPlan.of(*axis, rounding)
    assert (plan.overlap, plan.last_overlap, list(plan.starts)) == expected


@given(st.integers(1, 500), st.integers(1, 60), ROUNDINGS)
def test_every_cell_lies_in_one_or_two_crops_and_the_last_one_ends_with_the_axis(
    length: int, size: int, rounding: Rounding
) -> None:
    plan = CropPlan.of(length, size, rounding)
    assert set(plan.counts().tolist()) <= {1, 2}
    assert plan.starts[0] == 0
    assert plan.starts[-1] + size == max(length, size)
    # On a tie the released code may put two crops in one place.
    assert list(plan.starts) == sorted(set(plan.starts) if rounding == "exact" else plan.starts)


def test_more_crops_than_needed_only_where_the_released_code_rounds_up_a_tie() -> None:
    for length, size in product(range(1, 120), range(1, 15)):
        exact, half_even = (len(CropPlan.of(length, size, rounding).starts) for rounding in ("exact", "half_even"))
        assert exact == max(-(-length // size), 1)
        tie = length % size == 0 and (length // size) % 2 == 1 and length > size
        assert half_even == exact + tie


@given(LENGTHS, LENGTHS, SIZES, st.integers(1, 3), ROUNDINGS)
def test_merging_what_was_split_gives_back_every_bit(
    height: int, width: int, size: int, images: int, rounding: Rounding
) -> None:
    features = torch.randn(images, 2, height, width)
    crops = OverlappingCrops.of((height, width), size, rounding)
    assert torch.equal(crops.merge(crops.split(features)), features)


@given(LENGTHS, LENGTHS, SIZES, ROUNDINGS)
def test_crops_and_their_average_are_those_of_the_plan(height: int, width: int, size: int, rounding: Rounding) -> None:
    features = torch.randn(2, 3, height, width, dtype=torch.double)
    crops = OverlappingCrops.of((height, width), size, rounding)
    torch.testing.assert_close(crops.split(features), patch_by_patch(features, size, rounding), rtol=0, atol=0)
    changed = torch.randn_like(crops.split(features))
    torch.testing.assert_close(crops.merge(changed), weighted_sum(changed, features, size, rounding))


def test_a_map_of_one_crop_is_passed_on_as_it_is() -> None:
    features = torch.randn(2, 3, 7, 7)
    crops = OverlappingCrops.of((7, 7), 7)
    assert crops.split(features).data_ptr() == features.data_ptr() == crops.merge(crops.split(features)).data_ptr()


def test_the_gradient_of_a_cell_comes_from_all_crops_that_hold_it() -> None:
    features = torch.randn(1, 2, 5, 8, dtype=torch.double, requires_grad=True)
    crops = OverlappingCrops.of((5, 8), 3)
    assert torch.autograd.gradcheck(lambda inputs: crops.merge(crops.split(inputs).sin()), features)


def test_shifting_by_whole_crops_shifts_the_answer_where_nothing_is_shared() -> None:
    features = torch.randn(1, 2, 4, 12)
    crops = OverlappingCrops.of((4, 12), 4)
    answer = crops.merge(crops.split(features).cumsum(-1))
    shifted = crops.merge(crops.split(features.roll(4, -1)).cumsum(-1))
    assert torch.equal(shifted, answer.roll(4, -1))


def patch_by_patch(features: Tensor, size: int, rounding: Rounding) -> Tensor:
    """Slices of the padded map, one by one."""
    rows, columns = (CropPlan.of(length, size, rounding) for length in features.shape[-2:])
    padded = features.new_zeros(*features.shape[:2], *(max(length, size) for length in features.shape[-2:]))
    padded[..., : features.shape[-2], : features.shape[-1]] = features
    return torch.stack(
        [
            image[:, top : top + size, left : left + size]
            for image in padded
            for top, left in product(rows.starts, columns.starts)
        ]
    )


def weighted_sum(crops: Tensor, features: Tensor, size: int, rounding: Rounding) -> Tensor:
    """Every crop added in its place with the weight 1 / count of each axis."""
    height, width = features.shape[-2:]
    rows, columns = (CropPlan.of(length, size, rounding) for length in (height, width))
    weight = (1 / rows.counts().double())[:, None] * (1 / columns.counts().double())
    merged = features.new_zeros(*features.shape[:2], *weight.shape)
    places = product(range(len(features)), rows.starts, columns.starts)
    for crop, (image, top, left) in zip(crops, places, strict=True):
        place = slice(top, top + size), slice(left, left + size)
        merged[image, :, *place] += crop * weight[place]
    return merged[..., :height, :width]
