"""Counts, sizes and durations in the text format that Prometheus reads.

"Text-based format", version 0.0.4, prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric(Protocol):
    """Something that can be written down."""

    def lines(self) -> Iterator[str]: ...


class Counter:
    """A number that only grows, one for each combination of label values."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def add(self, amount: float = 1.0, *values: str) -> None:
        """values: of the labels, in their order."""
        self.values[values] = self.values.get(values, 0.0) + amount

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.about, "counter")
        for values, number in sorted(self.values.items()):
            yield f"{self.name}{_labeled(zip(self.labels, values, strict=True))} {number:.16g}"


class Gauge:
    """A number as it is when somebody asks."""

    def __init__(
        self, name: str, about: str, read: Callable[[], float], labels: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.name, self.about, self.read, self.labels = name, about, read, tuple(labels)

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.about, "gauge")
        yield f"{self.name}{_labeled(self.labels)} {self.read():.10g}"


class Histogram:
    """How many observations were at most so large, for every bound; their sum and number."""

    def __init__(self, name: str, about: str, bounds: Sequence[float]) -> None:
        self.name, self.about, self.bounds = name, about, tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.about, "histogram")
        total = 0
        for bound, count in zip([*(f"{bound:g}" for bound in self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{bound}"}} {total}'
        yield f"{self.name}_sum {self.sum:.10g}"
        yield f"{self.name}_count {total}"


def exposition(metrics: Iterable[Metric]) -> str:
    """All of them as one document."""
    return "\n".join(line for metric in metrics for line in metric.lines()) + "\n"


def _head(name: str, about: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"


def _labeled(pairs: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{text}}}" if text else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
