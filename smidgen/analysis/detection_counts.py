"""How many detections stand against how many objects, at several score thresholds: what a user should set --score to.

A detector without suppression says one object once only where it is sure of itself; the number of detections above a
threshold, image by image, shows doubles (too many) and silence (too few) without any matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture, how_many
from smidgen.analysis.query_activation import scores_of

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
DETECTION_COLOR, ERROR_COLOR, OBJECT_COLOR = "#0072B2", "#D55E00", "#888888"


@dataclass(frozen=True, slots=True)
class DetectionCounts:
    """Per image the number of labeled objects and, by threshold, of detections with at least this score.

    objects: one number per image. detections: images x thresholds. Counts of several batches are put together.
    """

    thresholds: tuple[float, ...]
    objects: npt.NDArray[np.int64]
    detections: npt.NDArray[np.int64]

    @property
    def mean_error(self) -> npt.NDArray[np.float64]:
        """By threshold, the mean over images of |detections - objects|; -1 without images."""
        if not len(self.objects):
            return np.full(len(self.thresholds), -1.0)
        error: npt.NDArray[np.float64] = np.abs(self.detections - self.objects[:, None]).mean(axis=0)
        return error

    @property
    def best_threshold(self) -> float:
        """The threshold whose numbers of detections are closest to the numbers of objects."""
        return self.thresholds[int(self.mean_error.argmin())]

    def __add__(self, other: DetectionCounts) -> DetectionCounts:
        if self.thresholds != other.thresholds:
            raise ValueError(
                f"expected counts at the same thresholds to add, got {self.thresholds} and {other.thresholds}"
            )
        return DetectionCounts(
            self.thresholds,
            np.concatenate([self.objects, other.objects]),
            np.concatenate([self.detections, other.detections]),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: means over images by threshold."""
        means = self.detections.mean(axis=0) if len(self.objects) else np.full(len(self.thresholds), -1.0)
        return {
            "images": len(self.objects),
            "objects": int(self.objects.sum()),
            "best_threshold": self.best_threshold,
            "by_threshold": [
                {"score": score, "detections_per_image": mean, "mean_error": error}
                for score, mean, error in zip(self.thresholds, means.tolist(), self.mean_error.tolist(), strict=True)
            ],
        }


def count_detections(observation: Observation, thresholds: tuple[float, ...] = THRESHOLDS) -> DetectionCounts:
    """Count one batch: pairs of a query and a class whose score reaches the threshold."""
    scores = scores_of(observation.output.final).flatten(1)
    numbers = torch.stack([(scores >= threshold).sum(dim=1) for threshold in thresholds], dim=1)
    objects = np.array([len(target) for target in observation.targets], dtype=np.int64)
    return DetectionCounts(tuple(thresholds), objects, numbers.cpu().numpy())


def detection_count_chart(counts: DetectionCounts) -> Picture:
    """Detections per image over the threshold, and image by image at the threshold that fits best.

    data: `DetectionCounts.to_json()`.
    """
    figure = Figure(figsize=(12.0, 4.8), layout="constrained")
    figure.suptitle(f"Detections and objects of {how_many(len(counts.objects), 'image')}", fontsize=13)
    over_thresholds, by_image = figure.subplots(1, 2, width_ratios=(1.3, 1))
    _draw_thresholds(over_thresholds, counts)
    _draw_images(by_image, counts)
    return Picture(figure, counts.to_json())


def _draw_thresholds(axes: Axes, counts: DetectionCounts) -> None:
    rows = counts.to_json()["by_threshold"]
    mean_objects = float(counts.objects.mean()) if len(counts.objects) else 0.0
    detections = [row["detections_per_image"] for row in rows]
    axes.plot(counts.thresholds, detections, color=DETECTION_COLOR, marker="o", label="detections per image")
    axes.axhline(mean_objects, color=OBJECT_COLOR, linestyle="--", label=f"objects per image ({mean_objects:.1f})")
    axes.plot(
        counts.thresholds, counts.mean_error, color=ERROR_COLOR, marker="o", label="detections too many or too few"
    )
    axes.axvline(counts.best_threshold, color=ERROR_COLOR, linewidth=0.8)
    axes.set_yscale("symlog", linthresh=1)
    _plain_ticks(axes, max([1.0, mean_objects, *detections]))
    axes.set(xlabel="least score", ylabel="number per image (logarithmic)", xlim=(0, 1))
    axes.set_title(f"means over images; fewest mistakes at a score of {counts.best_threshold:g}", fontsize=10)
    axes.legend(fontsize=9)


def _plain_ticks(axes: Axes, most: float) -> None:
    marks = [0, *(base * 10**power for power in range(6) for base in (1, 2, 5) if base * 10**power <= 2 * most)]
    axes.set_yticks(marks, [str(mark) for mark in marks])
    axes.set_yticks([], minor=True)
    axes.set_ylim(0, 2 * most)


def _draw_images(axes: Axes, counts: DetectionCounts) -> None:
    column = counts.thresholds.index(counts.best_threshold)
    detections = counts.detections[:, column]
    most = max([1, *counts.objects.tolist(), *detections.tolist()]) * 1.05 + 0.5
    axes.plot([0, most], [0, most], color=OBJECT_COLOR, linewidth=1, linestyle="--", label="as many as objects")
    axes.scatter(counts.objects, detections, s=26, color=DETECTION_COLOR, alpha=0.55, linewidths=0)
    axes.set(xlim=(-0.5, most), ylim=(-0.5, most), xlabel="objects in the image")
    axes.set(ylabel=f"detections with a score of at least {counts.best_threshold:g}")
    axes.set_title("a dot per image; darker: several images", fontsize=10)
    axes.legend(fontsize=9, loc="upper left")
