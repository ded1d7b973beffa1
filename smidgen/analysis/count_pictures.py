"""Counted against true objects: what a counting model thinks of each image, and how many queries it asked for it.

Huang et al., "DQ-DETR: DETR with Dynamic Query for Tiny Object Detection", ECCV 2024: an image's class of object counts
decides its query budget, so a class too low leaves objects without a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture, how_many
from smidgen.structures import evidence_of
from smidgen.tokens.object_counting import ObjectCount

RIGHT_COLOR, TOO_LOW_COLOR, TOO_HIGH_COLOR = "#0072B2", "#D55E00", "#E69F00"


@dataclass(frozen=True, slots=True)
class ImageCount:
    """One image: its number of labeled objects, the class of counts it was taken for, the queries it got."""

    image_id: int | str
    objects: int
    counted_class: int
    queries: int


@dataclass(frozen=True, slots=True)
class CountComparison:
    """Images with their counts, under the thresholds that divide counts into classes: class t has t thresholds <= n."""

    thresholds: tuple[int, ...]
    images: tuple[ImageCount, ...]

    def true_class(self, image: ImageCount) -> int:
        """The class that its number of objects belongs to."""
        return sum(threshold <= image.objects for threshold in self.thresholds)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The counts of each class in words, e.g. "0 - 9", "10 - 99", "100 and more"."""
        starts = (0, *self.thresholds)
        closed = [f"{low} - {high - 1}" if high - low > 1 else f"{low}" for low, high in pairwise(starts)]
        return (*closed, f"{starts[-1]} and more")

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Number of images by true class (rows) and counted class (columns)."""
        table = np.zeros((len(self.thresholds) + 1,) * 2, dtype=np.int64)
        for image in self.images:
            table[self.true_class(image), image.counted_class] += 1
        return table

    @property
    def accuracy(self) -> float:
        """Share of images whose class is right; -1 where there is none."""
        return float(np.trace(self.confusion) / len(self.images)) if self.images else -1.0

    @property
    def short_of_queries(self) -> int:
        """Images with more objects than queries."""
        return sum(image.objects > image.queries for image in self.images)

    def __add__(self, other: CountComparison) -> CountComparison:
        if self.thresholds != other.thresholds:
            raise ValueError(f"expected counts with the same thresholds, got {self.thresholds} and {other.thresholds}")
        return CountComparison(self.thresholds, self.images + other.images)

    def to_json(self) -> dict[str, Any]:
        """Plain values; images as {image_id, objects, true_class, counted_class, queries}."""
        return {
            "thresholds": list(self.thresholds),
            "classes": list(self.class_names),
            "accuracy": self.accuracy,
            "confusion": self.confusion.tolist(),
            "images_with_more_objects_than_queries": self.short_of_queries,
            "images": [
                {
                    "image_id": image.image_id,
                    "objects": image.objects,
                    "true_class": self.true_class(image),
                    "counted_class": image.counted_class,
                    "queries": image.queries,
                }
                for image in self.images
            ],
        }


def compare_counts(observation: Observation) -> CountComparison:
    """Counted and true objects of one batch. Raises ValueError where the output has no ObjectCount."""
    count = evidence_of(observation.output.evidence, ObjectCount)
    if count is None:
        raise ValueError("expected a model that counts objects (dq_detr, lsq_detr), got one without ObjectCount")
    final = observation.output.final
    queries = [final.boxes_cxcywh.shape[1]] * len(observation)
    if final.padding is not None:
        queries = (~final.padding).sum(dim=1).tolist()
    classes = count.logits.argmax(dim=1).tolist()
    images = tuple(
        ImageCount(target.image_id, len(target), counted, number)
        for target, counted, number in zip(observation.targets, classes, queries, strict=True)
    )
    return CountComparison(tuple(count.thresholds), images)


def counting_chart(comparison: CountComparison) -> Picture:
    """Three panels: true count against counted class, the queries each image got, and the confusion table.

    data: `CountComparison.to_json()`.
    """
    figure = Figure(figsize=(13.0, 4.8), layout="constrained")
    right = f"{comparison.accuracy:.0%} in the right class" if comparison.images else "no images"
    figure.suptitle(f"Counted and true objects of {how_many(len(comparison.images), 'image')}: {right}", fontsize=13)
    strip, budget, confusion = figure.subplots(1, 3, width_ratios=(1.25, 1.25, 1))
    _draw_strip(strip, comparison)
    _draw_budget(budget, comparison)
    _draw_confusion(confusion, comparison)
    return Picture(figure, comparison.to_json())


def _draw_strip(axes: Axes, comparison: CountComparison) -> None:
    """Images as points: across their true count, up the class they were taken for; blue bands are right."""
    true = np.array([image.objects for image in comparison.images])
    counted = np.array([image.counted_class for image in comparison.images])
    spread = np.random.default_rng(0).uniform(-0.28, 0.28, len(true))  # points of a class beside each other
    edges = _count_axis(axes, comparison)
    for number, (low, high) in enumerate(pairwise(edges)):
        axes.fill_between((low, high), number - 0.42, number + 0.42, color=RIGHT_COLOR, alpha=0.13, linewidth=0)
    axes.scatter(true, counted + spread, s=22, c=_verdicts(comparison), linewidths=0.4, edgecolors="white", zorder=3)
    axes.set_yticks(range(len(comparison.class_names)), comparison.class_names)
    axes.set(ylim=(-0.6, len(comparison.class_names) - 0.4), ylabel="class that was counted")
    axes.set_title("a dot per image; shaded: the right class", fontsize=10)


def _draw_budget(axes: Axes, comparison: CountComparison) -> None:
    """Queries over true count; images below the diagonal have more objects than queries."""
    true = [image.objects for image in comparison.images]
    queries = [image.queries for image in comparison.images]
    edges = _count_axis(axes, comparison)
    line = np.geomspace(1, max(edges[-1], 2.0))
    axes.plot(line, line, color="#888888", linewidth=1, linestyle="--", label="as many queries as objects")
    axes.scatter(true, queries, s=22, c=_verdicts(comparison), linewidths=0.4, edgecolors="white", zorder=3)
    for name, color in (("right class", RIGHT_COLOR), ("too low", TOO_LOW_COLOR), ("too high", TOO_HIGH_COLOR)):
        axes.scatter([], [], s=22, color=color, label=name)
    most = 4 * max([1, *queries])  # room for the legend
    axes.set_yscale("symlog", linthresh=1)
    axes.set(ylabel="queries the image got", ylim=(-0.15, most))
    axes.set_yticks(*_decades(most))
    axes.legend(fontsize=8, frameon=True, loc="upper left", framealpha=0.85)
    short = comparison.short_of_queries
    have = "has" if short == 1 else "have"
    axes.set_title(f"{how_many(short, 'image')} {have} more objects than queries", fontsize=10)


def _draw_confusion(axes: Axes, comparison: CountComparison) -> None:
    """Images by true and counted class; shares of a row as shades."""
    table = comparison.confusion
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="lower")
    for (row, column), number in np.ndenumerate(table):
        color = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, str(number), ha="center", va="center", color=color)
    ticks: Sequence[int] = range(len(comparison.class_names))
    axes.set_xticks(ticks, comparison.class_names, rotation=30, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(ticks, comparison.class_names, fontsize=8)
    axes.set(xlabel="class that was counted", ylabel="true class")
    axes.set_title("images by class; shade: share of the row", fontsize=10)


def _count_axis(axes: Axes, comparison: CountComparison) -> list[float]:
    """A logarithmic axis of true counts with the thresholds as lines; returns the edges of the classes on it."""
    most = max([1, *comparison.thresholds, *(image.objects for image in comparison.images)])
    edges = [0.0, *map(float, comparison.thresholds), 1.6 * most]
    axes.set_xscale("symlog", linthresh=1)
    for threshold in comparison.thresholds:
        axes.axvline(threshold, color="#888888", linewidth=0.8)
    axes.set(xlim=(-0.15, edges[-1]), xlabel="true number of objects")
    axes.set_xticks(*_decades(edges[-1]))
    return edges


def _decades(most: float) -> tuple[list[int], list[str]]:
    """Marks at 0 and the powers of ten up to `most`, with their labels."""
    marks = [0, *(10**power for power in range(7) if 10**power <= most)]
    return marks, [str(mark) for mark in marks]


def _verdicts(comparison: CountComparison) -> list[str]:
    colors = {-1: TOO_LOW_COLOR, 0: RIGHT_COLOR, 1: TOO_HIGH_COLOR}
    return [colors[int(np.sign(image.counted_class - comparison.true_class(image)))] for image in comparison.images]
