"""Times of several variants, taken in the same rounds, and how many times as fast as one of them the others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median, smallest and largest over rounds of the ratio within a round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantTimes:
    """One variant: seconds of every round by the clock that counts and by the wall's.

    peak_mib: the most memory that a call held beyond what was held before it; None where not measured.
    """

    name: str
    seconds: tuple[float, ...]
    wall_seconds: tuple[float, ...]
    peak_mib: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Variants that took turns. load: the system's load average of the last minute, before and after.

    answers: what every variant returned when it warmed up; not written to files. at: (name, value) of what grows, where
    the measurement is a point of a curve.
    """

    name: str
    clock: str
    against: str
    variants: tuple[VariantTimes, ...]
    load: tuple[float, float]
    at: tuple[str, float] | None = None
    answers: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, name: str) -> VariantTimes:
        return next(variant for variant in self.variants if variant.name == name)

    def ratio(self, name: str, against: str | None = None) -> Ratio:
        """How many times as fast as `against` (None: as the measurement's) a variant is; above 1 is faster."""
        peer = self[against or self.against].seconds
        ratios = [theirs / ours for theirs, ours in zip(peer, self[name].seconds, strict=True)]
        return Ratio(median(ratios), min(ratios), max(ratios))

    def memory_ratio(self, name: str) -> float | None:
        """Memory growth of a variant as a share of the compared one's; None where not measured."""
        ours, theirs = self[name].peak_mib, self[self.against].peak_mib
        return ours / theirs if ours is not None and theirs else None

    def to_json(self) -> dict[str, Any]:
        """Every round's seconds, and what they come to."""
        return {
            "name": self.name,
            "clock": self.clock,
            "against": self.against,
            "load": list(self.load),
            "at": None if self.at is None else dict([self.at]),
            "variants": [self._variant_json(variant) for variant in self.variants],
        }

    def _variant_json(self, variant: VariantTimes) -> dict[str, Any]:
        ratio = self.ratio(variant.name)
        return {
            "name": variant.name,
            "median_seconds": median(variant.seconds),
            "ratio": {"median": ratio.median, "low": ratio.low, "high": ratio.high},
            "seconds": list(variant.seconds),
            "wall_seconds": list(variant.wall_seconds),
            "peak_mib": variant.peak_mib,
        }

    def table(self) -> str:
        """As text: seconds with their spread, the ratio with its own, and memory where it was measured."""
        rounds = len(self.variants[0].seconds)
        before, after = self.load
        lines = [f"{self.name}: {self.clock}, {rounds} round(s), load {before:.1f} to {after:.1f}"]
        widest = max(len(variant.name) for variant in self.variants)
        return "\n".join([*lines, *(f"  {variant.name:{widest}}  {self._cells(variant)}" for variant in self.variants)])

    def _cells(self, variant: VariantTimes) -> str:
        low, high = (f"{1000 * side(variant.seconds):.4g}" for side in (min, max))
        spent = f"{1000 * median(variant.seconds):9.4g} ms ({low}-{high})"
        memory = "" if variant.peak_mib is None else f"  peak {variant.peak_mib:,.0f} MiB"
        return f"{spent:32}  wall {1000 * median(variant.wall_seconds):9.4g} ms  {self.ratio(variant.name)}{memory}"
