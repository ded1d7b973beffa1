"""Whether one detector is better than another, or these images favor it: a paired bootstrap over images and seeds.

P. Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004, after B. Efron, 1979: every run is
judged on the same resampled images, so that what makes images easy or hard for all of them cancels in the difference.
Where a system was trained with several seeds, a sample draws seeds as well, with replacement, and takes their mean; a
few seeds say little about the spread over seeds, and drawing from R of them makes it too small by the factor
sqrt((R - 1) / R), so read intervals over two or three seeds as too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, read_ground_truth, read_results
from smidgen.evaluation.bootstrap import resampled_figures
from smidgen.evaluation.ignore_rules import apply_ignore_rules
from smidgen.evaluation.protocol import Protocol, load_protocol
from smidgen.evaluation.resampling import COVERAGE, percentile_interval, resampled_images

CANNOT_TELL = "cannot be told apart"
System = Sequence[Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval. by_run: of each seed's run; their mean is the value."""

    value: float
    low: float
    high: float
    by_run: tuple[float, ...]

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (of R - 1 degrees of freedom); None for a single run."""
        return float(np.std(self.by_run, ddof=1)) if len(self.by_run) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "value": self.value,
            "interval": [self.low, self.high],
            "by_run": list(self.by_run),
            "spread_over_seeds": self.spread,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure less that of the first system, with its 95 % interval. better, equal: shares of samples, in [0, 1]."""

    value: float
    low: float
    high: float
    better: float
    equal: float

    @property
    def verdict(self) -> str:
        """In words; an interval that holds 0 tells nothing apart."""
        if self.low <= 0 <= self.high:
            return CANNOT_TELL
        return "better" if self.low > 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "value": self.value,
            "interval": [self.low, self.high],
            "better_in": self.better,
            "equal_in": self.equal,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """One system: its figures, and their differences to the first system (none for the first itself)."""

    name: str
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Difference] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "metrics": {metric: estimate.to_json() for metric, estimate in self.figures.items()},
            "differences": {metric: difference.to_json() for metric, difference in self.differences.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All systems under one protocol. objects: by metric, how many objects of its size bin there are."""

    protocol: Protocol
    systems: tuple[Compared, ...]
    metrics: tuple[str, ...]
    objects: Mapping[str, int]
    images: int
    samples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "protocol": self.protocol.label,
            "images": self.images,
            "objects": dict(self.objects),
            "sizes_px": {metric: list(self.sides_px(metric)) for metric in self.metrics},
            "baseline": self.systems[0].name,
            "systems": [system.to_json() for system in self.systems],
            "settings": {**self.protocol.settings(), "samples": self.samples, "seed": self.seed, "coverage": COVERAGE},
        }

    def sides_px(self, metric: str) -> tuple[float, float]:
        """Square roots of the size bin's bounds: from which object side to which the metric looks."""
        low, high = self.protocol.areas[self.protocol.area_of(self.protocol.figures[metric])]
        return low**0.5, high**0.5

    def size_in_words(self, metric: str) -> str:
        """ "any size", "up to 32 px", "8 to 16 px", "from 96 px"."""
        low, high = self.sides_px(metric)
        upper = f"{high:g} px" if high < 1e5 else ""
        if not low:
            return f"up to {upper}" if upper else "any size"
        return f"{low:g} to {upper}" if upper else f"from {low:g} px"

    def cautions(self) -> list[str]:
        """What the intervals do not say, in sentences."""
        seeds = {len(estimate.by_run) for system in self.systems for estimate in system.figures.values()}
        differences = sum(len(system.differences) for system in self.systems)
        sentences = []
        if 1 in seeds:
            sentences.append(
                "A run of one seed speaks for itself and not for its system: its interval says what other images would "
                "change, not what another seed would."
            )
        if seeds & {2, 3, 4}:
            sentences.append("Fewer than five seeds say little about the spread over seeds: intervals are too narrow.")
        if differences > 1:
            sentences.append(
                f"Each of the {differences} intervals of a difference holds for itself: between equal systems, about "
                "one of 20 leaves out 0 by chance."
            )
        return sentences


def compare(
    ground_truth: Mapping[str, Any],
    systems: Mapping[str, System],
    protocol: str | Path | Protocol = "coco",
    *,
    metrics: Sequence[str] | None = None,
    samples: int = 500,
    seed: int = 0,
) -> Comparison:
    """Compare systems by name, each a list of COCO results for every seed it was trained with (often just one).

    metrics: average precisions of the protocol; None = all of whose size there are objects. samples, seed: of the
    bootstrap. Raises ValueError for other metrics, and where results do not belong to the ground truth.
    """
    protocol, truth = load_protocol(protocol), read_ground_truth(ground_truth)
    if not systems or not all(systems.values()) or samples < 1:
        raise ValueError(f"expected systems with results and at least 1 sample, got {list(systems)} and {samples}")
    judged, _ = apply_ignore_rules(truth, read_results([], truth), protocol)
    chosen = tuple(metrics) if metrics is not None else _metrics(protocol, judged)
    rng = np.random.default_rng(seed)
    weights = _all_then_resampled(len(truth.image_ids), samples, rng)
    values = {}
    for name, runs in systems.items():
        by_run = [
            resampled_figures(truth, read_results(run, truth), protocol, metrics=chosen, weights=weights)
            for run in runs
        ]
        drawn = _drawn_runs(len(runs), samples, rng)
        values[name] = {metric: np.stack([run[metric] for run in by_run]) for metric in chosen}, drawn
    first = next(iter(systems))
    return Comparison(
        protocol=protocol,
        systems=tuple(_compared(name, values[name], None if name == first else values[first]) for name in systems),
        metrics=chosen,
        objects={metric: _objects(judged, protocol, metric) for metric in chosen},
        images=len(truth.image_ids),
        samples=samples,
        seed=seed,
    )


def _metrics(protocol: Protocol, truth: GroundTruth) -> tuple[str, ...]:
    """Average precisions for which there are objects."""
    precisions = [name for name, figure in protocol.figures.items() if figure.measure == "average_precision"]
    found = tuple(name for name in precisions if _objects(truth, protocol, name))
    if not found:
        raise ValueError(f"expected ground truth with objects to compare on, got none for {', '.join(precisions)}")
    return found


def _objects(truth: GroundTruth, protocol: Protocol, metric: str) -> int:
    figure = protocol.figures.get(metric)
    return 0 if figure is None else truth.objects_in(protocol.areas[protocol.area_of(figure)])


def _all_then_resampled(images: int, samples: int, rng: np.random.Generator) -> Int[NDArray[np.int64], "S I"]:
    """How often each image occurs: once in the first row, which gives the figures themselves."""
    return np.concatenate([np.ones((1, images), np.int64), resampled_images(images, samples, rng)])


def _drawn_runs(runs: int, samples: int, rng: np.random.Generator) -> Float[NDArray[np.float64], "S R"]:
    """The part that each run has in each mean: the same in the first row, by resampled seeds in the others."""
    drawn = rng.multinomial(runs, np.full(runs, 1 / runs), size=samples)
    return np.concatenate([np.ones((1, runs)), drawn]) / runs


# By metric the figure of every run and sample (R S), and the part of each run in the sample's mean (S R).
_Values = tuple[dict[str, Float[NDArray[np.float64], "R S"]], Float[NDArray[np.float64], "S R"]]


def _compared(name: str, values: _Values, first: _Values | None) -> Compared:
    figures = {metric: _estimate(_means(values, metric), values[0][metric][:, 0]) for metric in values[0]}
    if first is None:
        return Compared(name, figures)
    pairs = {metric: _means(values, metric) - _means(first, metric) for metric in values[0]}
    return Compared(name, figures, {metric: _difference(samples) for metric, samples in pairs.items()})


def _means(values: _Values, metric: str) -> Float[NDArray[np.float64], " S"]:
    figures, parts = values
    return np.asarray((figures[metric] * parts.T).sum(axis=0))


def _estimate(samples: NDArray[np.float64], by_run: NDArray[np.float64]) -> Estimate:
    low, high = percentile_interval(samples[1:], absent=-1.0)
    return Estimate(_plain(samples[0]), low, high, tuple(_plain(value) for value in by_run))


def _difference(samples: NDArray[np.float64]) -> Difference:
    low, high = percentile_interval(samples[1:], absent=0.0)
    drawn = samples[1:][~np.isnan(samples[1:])]
    better, equal = (float(np.mean(share)) if len(drawn) else 0.0 for share in (drawn > 0, drawn == 0))
    return Difference(_plain(samples[0], absent=0.0), low, high, better, equal)


def _plain(value: float, absent: float = -1.0) -> float:
    return absent if np.isnan(value) else float(value)
