"""A distribution in a few numbers: quantiles with the mean, and a histogram whose last bin is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Quantiles:
    """q05 ... q95: the value that this share (in per cent) of the values does not pass, interpolated."""

    smallest: float
    q05: float
    q25: float
    median: float
    q75: float
    q95: float
    largest: float
    mean: float

    @staticmethod
    def of(values: npt.NDArray[np.float64 | np.int64]) -> Quantiles | None:
        """None where there is no value."""
        if len(values) == 0:
            return None
        smallest, q05, q25, median, q75, q95, largest = np.quantile(
            values, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
        ).tolist()
        return Quantiles(smallest, q05, q25, median, q75, q95, largest, float(values.mean()))


@dataclass(frozen=True, slots=True)
class Histogram:
    """counts[i] values lie in [edges[i], edges[i + 1]); the last bin begins at edges[-1] and has no end."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @staticmethod
    def of(values: npt.NDArray[np.float64 | np.int64], edges: Sequence[float]) -> Histogram:
        """edges: ascending; every value is at least edges[0]."""
        bins = np.searchsorted(edges, values, side="right") - 1
        counts = np.bincount(bins, minlength=len(edges))
        return Histogram(tuple(float(edge) for edge in edges), tuple(counts.tolist()))

    @property
    def labels(self) -> tuple[str, ...]:
        """Each bin in words: "4-6" for [4, 6), "128+" for the open one."""
        closed = [f"{low:g}-{high:g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return (*closed, f"{self.edges[-1]:g}+")


def round_edges(largest: float, bins: int = 20) -> tuple[float, ...]:
    """Edges from 0 on, equally far apart (1, 2 or 5 times a power of ten, at least 1), at most `bins` of them."""
    rough = max(largest, 1.0) / (bins - 1)
    power = 10.0 ** np.floor(np.log10(rough))
    step = max(1.0, next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough))
    return tuple(float(edge) for edge in np.arange(0, largest + step, step)[:bins])
