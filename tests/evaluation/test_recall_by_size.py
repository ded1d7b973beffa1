from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation.recall_by_size import SizedObjects, context_effect, recall_curve, side_edges, sides_reached

IMAGES = 8


def objects_of(seed: int, chance: object = 0.5, number: int = 400) -> SizedObjects:
    """Sides of 2 to 64 px; chance: of each object to be found, given its side."""
    rng = np.random.default_rng(seed)
    side = 2.0 ** rng.uniform(1, 6, number)
    likely = chance(side) if callable(chance) else chance
    return SizedObjects(
        image=rng.integers(0, IMAGES, number),
        scale=rng.choice([1.0, 0.5], number),
        side_px=side,
        found=rng.random(number) < likely,
    )


def resampled(samples: int = 60) -> np.ndarray:
    return np.random.default_rng(3).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=samples)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 5000), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_every_object_is_in_the_bin_of_its_side(sides: list[float], seed: int):
    side = np.array(sides)
    rng = np.random.default_rng(seed)
    objects = SizedObjects(
        image=rng.integers(0, IMAGES, len(side)),
        scale=np.ones(len(side)),
        side_px=side,
        found=rng.random(len(side)) < 0.5,
    )
    curve = recall_curve(objects, side_edges(side), resampled(5))
    expected = np.array(
        [((side >= low) & (side < high)).sum() for low, high in zip(*_pairs(curve.edges_px), strict=True)]
    )
    assert curve.objects.sum() == len(side) and curve.found.sum() == objects.found.sum()
    assert np.abs(curve.objects - expected).sum() <= np.isclose(side[:, None], curve.edges_px, rtol=1e-12).sum() * 2
    filled = curve.objects > 0
    assert (curve.edges_px[:-1][filled] * (1 - 1e-9) <= curve.center_px[filled]).all()
    assert (curve.center_px[filled] <= curve.edges_px[1:][filled] * (1 + 1e-9)).all()


def test_the_band_holds_the_curve_and_needs_several_images():
    objects = objects_of(1)
    edges = side_edges(objects.side_px)
    curve = recall_curve(objects, edges, resampled())
    assert (curve.low < curve.recall).all() and (curve.recall < curve.high).all()
    same = recall_curve(objects, edges, np.ones((5, IMAGES), np.int64))
    assert same.low == pytest.approx(curve.recall) and same.high == pytest.approx(curve.recall)


@pytest.mark.parametrize("center", [6.0, 15.0])
def test_a_smooth_curve_is_read_where_it_crosses(center: float):
    objects = objects_of(2, lambda side: 0.8 / (1 + (center / side) ** 6), number=20000)
    half, most = sides_reached(objects, recall_curve(objects, side_edges(objects.side_px), resampled()), resampled())
    assert half.plateau == pytest.approx(0.8, abs=0.03)
    assert half.side_px == pytest.approx(center, rel=0.06)
    assert most.side_px == pytest.approx(center * 4 ** (1 / 6), rel=0.08)
    assert half.low <= half.side_px <= half.high < most.high


def test_few_lucky_objects_make_no_plateau():
    objects = objects_of(4, 0.5, number=3000)
    lucky = SizedObjects(
        image=np.append(objects.image, 0),
        scale=np.append(objects.scale, 1.0),
        side_px=np.append(objects.side_px, 500.0),
        found=np.append(objects.found, True),
    )
    curve = recall_curve(lucky, side_edges(lucky.side_px), resampled())
    assert curve.recall[-1] == 1.0
    assert sides_reached(lucky, curve, resampled())[0].plateau < 0.7


def test_context_counts_only_equal_sides():
    objects = objects_of(5, lambda side: side / 64, number=20000)
    nothing = context_effect(objects, resampled())
    assert nothing is not None and abs(nothing.value) < 0.02 and nothing.low < 0 < nothing.high
    better = SizedObjects(
        image=objects.image, scale=objects.scale, side_px=objects.side_px, found=objects.found | (objects.scale == 1)
    )
    found = context_effect(better, resampled())
    assert found is not None and found.low > 0.4
    apart = better[(better.scale == 1) == (better.side_px >= 8)]
    assert context_effect(apart, resampled()) is None


def _pairs(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return edges[:-1], edges[1:]
