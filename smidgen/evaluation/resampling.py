"""Images drawn again with replacement, as how often each occurs, and the interval that a figure then keeps to.

B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979; the interval is the percentile one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

COVERAGE = 0.95


def resampled_images(images: int, samples: int, rng: np.random.Generator) -> Int[NDArray[np.int64], "S I"]:
    """How often each image occurs in each of `samples` sets of as many images."""
    if not images:
        return np.zeros((samples, 0), np.int64)
    return rng.multinomial(images, np.full(images, 1 / images), size=samples)


def percentile_interval(
    values: Float[NDArray[np.float64], " S"], coverage: float = COVERAGE, *, absent: float = np.nan
) -> tuple[float, float]:
    """(low, high) that hold `coverage` of the samples, but for those that are NaN; `absent` twice where all are."""
    drawn = values[~np.isnan(values)]
    if not len(drawn):
        return absent, absent
    low, high = np.quantile(drawn, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
