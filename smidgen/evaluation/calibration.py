"""Whether a score of 0.7 means right in seven of ten cases, by size: the reliability curve and its error.

M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015
(expected and maximum calibration error); for detections F. Küppers et al., "Multivariate Confidence Calibration for
Object Detection", 2020: a detection is right where it matches an object, and the many detections of low score are left
out (there below 0.3, here below 0.1, as small objects score low), which would otherwise be all that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import Results
from smidgen.evaluation.engine import Matching

LEAST_SCORE = 0.1
BINS = 10


@dataclass(frozen=True, slots=True)
class Reliability:
    """Detections of one size bin, in bins of equal width of their scores. right: how many match an object."""

    size: str
    detections: Int[NDArray[np.int64], " N"]
    score_sum: Float[NDArray[np.float64], " N"]
    right: Int[NDArray[np.int64], " N"]

    @property
    def mean_score(self) -> Float[NDArray[np.float64], " N"]:
        """NaN in empty bins."""
        return _ratio(self.score_sum, self.detections)

    @property
    def accuracy(self) -> Float[NDArray[np.float64], " N"]:
        """Share that is right; NaN in empty bins."""
        return _ratio(self.right, self.detections)

    @property
    def expected_error(self) -> float:
        """Mean distance of score and accuracy over detections; -1 without any."""
        total = int(self.detections.sum())
        return float(np.abs(self.right - self.score_sum).sum() / total) if total else -1.0

    @property
    def maximum_error(self) -> float:
        """The worst bin's distance; -1 without detections."""
        gaps = np.abs(self.accuracy - self.mean_score)
        return float(np.nanmax(gaps)) if self.detections.any() else -1.0

    @property
    def overconfidence(self) -> float:
        """Mean score minus accuracy over all detections: above 0 promises too much; NaN without any."""
        total = int(self.detections.sum())
        return float((self.score_sum.sum() - self.right.sum()) / total) if total else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where a bin is empty."""
        edges = np.linspace(0, 1, len(self.detections) + 1).round(6).tolist()
        total = int(self.detections.sum())
        return {
            "size": self.size,
            "expected_error": self.expected_error,
            "maximum_error": self.maximum_error,
            "overconfidence": self.overconfidence if total else None,
            "detections": total,
            "bins": [
                {
                    "from": edges[index],
                    "to": edges[index + 1],
                    "detections": int(number),
                    "mean_score": float(self.mean_score[index]) if number else None,
                    "accuracy": float(self.accuracy[index]) if number else None,
                }
                for index, number in enumerate(self.detections)
            ],
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability per size bin at one IoU threshold, of detections that score at least `least_score`."""

    iou_threshold: float
    least_score: float
    by_size: tuple[Reliability, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "iou_threshold": self.iou_threshold,
            "least_score": self.least_score,
            "by_size": [reliability.to_json() for reliability in self.by_size],
        }


def calibration(
    results: Results,
    matchings: Mapping[str, Matching],
    iou_threshold: float,
    *,
    least_score: float = LEAST_SCORE,
    bins: int = BINS,
) -> Calibration:
    """From one matching per size bin at this IoU threshold alone. Raises ValueError for scores outside [0, 1].

    A right detection is of its object's size, another one of its own; those that matched something ignored are left
    out.
    """
    if not scores_are_shares(results):
        low, high = float(results.scores.min()), float(results.scores.max())
        raise ValueError(
            f"expected scores in [0, 1] to calibrate, got {low:g} to {high:g}: are they logits or per cent?"
        )
    by_size = (_reliability(size, results, matching, least_score, bins) for size, matching in matchings.items())
    return Calibration(iou_threshold, least_score, tuple(by_size))


def scores_are_shares(results: Results) -> bool:
    """Whether every score is in [0, 1]."""
    return not len(results.scores) or bool(results.scores.min() >= 0 and results.scores.max() <= 1)


def _reliability(size: str, results: Results, matching: Matching, least_score: float, bins: int) -> Reliability:
    scores = results.scores[matching.detection]
    chosen = matching.counted[0] & (scores >= least_score)
    scores, right = scores[chosen], matching.hit[0][chosen]
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    return Reliability(
        size,
        np.bincount(place, minlength=bins),
        np.bincount(place, scores, minlength=bins).astype(np.float64),
        np.bincount(place[right], minlength=bins),
    )


def _ratio(numerator: NDArray[Any], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    empty = np.full(len(denominator), np.nan)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0)
