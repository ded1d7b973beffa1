from __future__ import annotations

import numpy as np
import pytest

from smidgen.evaluation.resampling import percentile_interval, resampled_images


def test_every_sample_has_as_many_images():
    weights = resampled_images(7, 300, np.random.default_rng(0))
    assert weights.shape == (300, 7) and set(weights.sum(axis=1)) == {7}
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.25)
    assert resampled_images(0, 3, np.random.default_rng(0)).shape == (3, 0)


def test_samples_without_a_value_do_not_count():
    values = np.array([np.nan, *range(101)])
    assert percentile_interval(values, 0.9) == pytest.approx((5, 95))
    assert percentile_interval(np.array([np.nan]), absent=-1.0) == (-1.0, -1.0)
    assert np.isnan(percentile_interval(np.zeros(0))).all()
