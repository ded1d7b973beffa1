"""Recall against the side of the object, with a band, and the side from which on a detector sees.

The band is the bootstrap over images (B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979). A side is
read from the monotone curve nearest to the measured one (isotonic regression: R. E. Barlow et al., "Statistical
Inference under Order Restrictions", 1972), whose last value is the plateau. Where recall falls again for large objects,
the plateau is a mean over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from smidgen.evaluation.resampling import percentile_interval

BINS_PER_OCTAVE = 3  # an edge every factor of 1.26
# Within a bin of the curve, sides still differ enough to look like an effect of context.
BINS_PER_OCTAVE_FOR_CONTEXT = 12
# Fewer objects in a bin say too little to be a plateau or the place where it begins.
LEAST_OBJECTS = 10
BELOW, NEVER = 0.0, np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedObjects:
    """Objects that a detector was shown. image: index of the image on disk; scale: by what it was shrunk.

    side_px: square root of the box's area in pixels of the network's input.
    """

    image: Int[NDArray[np.int64], " M"]
    scale: Float[NDArray[np.float64], " M"]
    side_px: Float[NDArray[np.float64], " M"]
    found: Bool[NDArray[np.bool_], " M"]

    def __getitem__(self, which: Bool[NDArray[np.bool_], " M"]) -> SizedObjects:
        """Only these objects."""
        return SizedObjects(
            image=self.image[which], scale=self.scale[which], side_px=self.side_px[which], found=self.found[which]
        )

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallCurve:
    """Recall by bin of the side. scale: of the objects on it, None = all pooled.

    edges_px: one more than bins. center_px: geometric mean of the objects' sides. low, high: 95 % interval over images.
    NaN in bins without objects.
    """

    scale: float | None
    edges_px: Float[NDArray[np.float64], " E"]
    center_px: Float[NDArray[np.float64], " B"]
    objects: Int[NDArray[np.int64], " B"]
    found: Int[NDArray[np.int64], " B"]
    low: Float[NDArray[np.float64], " B"]
    high: Float[NDArray[np.float64], " B"]

    @property
    def recall(self) -> Float[NDArray[np.float64], " B"]:
        """Found objects of all objects."""
        return _ratio(self.found, self.objects)

    def rows(self) -> list[dict[str, Any]]:
        """Bins that hold objects, as plain values; None where no sample drew any of them."""
        return [
            {
                "scale": "all" if self.scale is None else self.scale,
                "side_low_px": round(float(self.edges_px[index]), 3),
                "side_high_px": round(float(self.edges_px[index + 1]), 3),
                "mean_side_px": round(float(self.center_px[index]), 3),
                "objects": int(self.objects[index]),
                "found": int(self.found[index]),
                "recall": float(self.recall[index]),
                "low": _plain(self.low[index]),
                "high": _plain(self.high[index]),
            }
            for index in np.flatnonzero(self.objects)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReached:
    """The side in pixels at which recall reaches `share` of the plateau: 0 = already at the smallest side measured
    (then it is `smallest_px` or less), infinity = never, since nothing is found. low, high: 95 % interval, in which the
    same two values may stand.
    """

    share: float
    plateau: float
    side_px: float
    low: float
    high: float
    smallest_px: float

    def in_words(self) -> str:
        """One sentence."""
        goal = f"{self.share:.0%} of its plateau (recall {self.share * self.plateau:.2f} of {self.plateau:.2f})"
        if self.side_px == NEVER:
            return f"Recall never reaches {self.share:.0%} of a plateau: nothing is found at any size."
        interval = f"95 % interval {self._shown(self.low)} to {self._shown(self.high)}"
        if self.side_px == BELOW:
            return f"Recall reaches {goal} at {self.smallest_px:.1f} px or less, the smallest measured ({interval})."
        return f"Recall reaches {goal} at a side of {self.side_px:.1f} px ({interval})."

    def to_json(self) -> dict[str, Any]:
        """Plain values; null stands for "below the smallest measured" as side_px or low, for "never" as high."""
        status = {BELOW: "below the smallest measured", NEVER: "never"}.get(self.side_px, "reached")
        side, *interval = (
            value if value not in (BELOW, NEVER) else None for value in (self.side_px, self.low, self.high)
        )
        return {"share": self.share, "plateau": self.plateau, "status": status, "side_px": side, "interval": interval}

    def _shown(self, side: float) -> str:
        words = {BELOW: f"less than {self.smallest_px:.1f} px", NEVER: "never"}
        return words.get(side, f"{side:.1f} px")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEffect:
    """How much more recall objects of the least shrunk images have than shrunk objects of the same side, in [-1, 1].

    Mean over bins, weighted as by W. G. Cochran, "Some Methods for Strengthening the Common Chi-Square Tests", 1954.
    low, high: 95 % interval. objects: how many least shrunk ones had a counterpart.
    """

    value: float
    low: float
    high: float
    objects: int


def side_edges(
    side_px: Float[NDArray[np.float64], " M"], bins_per_octave: int = BINS_PER_OCTAVE
) -> Float[NDArray[np.float64], " E"]:
    """Edges of bins of equal width in log2 of the side, around all sides."""
    places = np.floor(np.log2(side_px) * bins_per_octave)
    first, last = (int(places.min()), int(places.max())) if len(places) else (0, 0)
    return np.asarray(2.0 ** (np.arange(first, last + 2) / bins_per_octave))


def recall_curve(
    objects: SizedObjects,
    edges_px: Float[NDArray[np.float64], " E"],
    weights: Int[NDArray[np.int64], "S I"],
    scale: float | None = None,
) -> RecallCurve:
    """The curve of these objects; weights: how often each image occurs in each resampled set."""
    shown, found = _by_image(objects, edges_px, weights.shape[1])
    low, high = _interval(_ratio(weights @ found, weights @ shown))
    total = shown.sum(axis=0)
    log_sides = np.bincount(_bin(objects, edges_px), np.log2(objects.side_px), len(total))
    return RecallCurve(
        scale=scale,
        edges_px=edges_px,
        center_px=2.0 ** _ratio(log_sides, total),
        objects=total,
        found=found.sum(axis=0),
        low=low,
        high=high,
    )


def sides_reached(
    objects: SizedObjects,
    curve: RecallCurve,
    weights: Int[NDArray[np.int64], "S I"],
    shares: Sequence[float] = (0.5, 0.8),
) -> tuple[SideReached, ...]:
    """Where recall reaches these shares of its plateau, from bins of at least 10 objects (all, where none has them)."""
    usable = curve.objects >= min(LEAST_OBJECTS, int(curve.objects.max(initial=0)))
    usable &= curve.objects > 0
    shown, found = (counts[:, usable] for counts in _by_image(objects, curve.edges_px, weights.shape[1]))
    center = curve.center_px[usable]
    plateau, sides = _crossings(center, shown.sum(axis=0), found.sum(axis=0), shares)
    resampled = [
        _crossings(center, *counts, shares)[1] for counts in zip(weights @ shown, weights @ found, strict=True)
    ]
    # Infinities are sorted, never interpolated.
    low, high = np.quantile(np.array(resampled), [0.025, 0.975], axis=0, method="inverted_cdf")
    smallest = float(center.min(initial=np.inf))
    return tuple(
        SideReached(
            share=share, plateau=plateau, side_px=side, low=float(low[i]), high=float(high[i]), smallest_px=smallest
        )
        for i, (share, side) in enumerate(zip(shares, sides, strict=True))
    )


def context_effect(objects: SizedObjects, weights: Int[NDArray[np.int64], "S I"]) -> ContextEffect | None:
    """The least shrunk objects beside the others of the same side (to 6 %); None where there are no such pairs."""
    edges_px = side_edges(objects.side_px, BINS_PER_OCTAVE_FOR_CONTEXT)
    least = objects.scale == objects.scale.max(initial=0)
    sides = [_by_image(objects[which], edges_px, weights.shape[1]) for which in (least, ~least)]
    once = np.ones((1, weights.shape[1]), np.int64)
    resampled = np.concatenate([once, weights])
    values = _weighted_difference(*((resampled @ shown, resampled @ found) for shown, found in sides))
    if np.isnan(values[0]):
        return None
    low, high = _interval(values[1:])
    both = sides[0][0].sum(axis=0)[sides[1][0].sum(axis=0) > 0]
    return ContextEffect(value=float(values[0]), low=float(low), high=float(high), objects=int(both.sum()))


def _weighted_difference(
    first: tuple[NDArray[np.int64], NDArray[np.int64]], second: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Per sample; each (shown, found) S B."""
    difference = _ratio(first[1], first[0]) - _ratio(second[1], second[0])
    weight = _ratio(first[0] * second[0], first[0] + second[0])
    usable = ~np.isnan(difference)
    total = np.where(usable, weight * difference, 0).sum(axis=-1)
    return _ratio(total, np.where(usable, weight, 0).sum(axis=-1))


def _crossings(
    center_px: NDArray[np.float64], shown: NDArray[np.int64], found: NDArray[np.int64], shares: Sequence[float]
) -> tuple[float, list[float]]:
    """The plateau, and the side at which the monotone curve reaches each share of it."""
    drawn = shown > 0
    if not found[drawn].any():
        return 0.0, [NEVER for _ in shares]
    fit = isotonic_regression(found[drawn] / shown[drawn], weights=shown[drawn].astype(np.float64)).x
    place = np.log2(center_px[drawn])
    return float(fit[-1]), [_crossing(place, fit, share * float(fit[-1])) for share in shares]


def _crossing(place: NDArray[np.float64], fit: NDArray[np.float64], level: float) -> float:
    index = int(np.argmax(fit >= level))
    if index == 0:
        return BELOW
    step = (level - fit[index - 1]) / (fit[index] - fit[index - 1])
    return float(2.0 ** (place[index - 1] + step * (place[index] - place[index - 1])))


def _by_image(
    objects: SizedObjects, edges_px: NDArray[np.float64], images: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Objects shown and found by image and bin, I B."""
    shown = np.zeros((images, len(edges_px) - 1), np.int64)
    found = np.zeros_like(shown)
    place = objects.image, _bin(objects, edges_px)
    np.add.at(shown, place, 1)
    np.add.at(found, place, objects.found)
    return shown, found


def _bin(objects: SizedObjects, edges_px: NDArray[np.float64]) -> NDArray[np.int64]:
    # Rounding may put a side that is an edge beyond the last bin.
    return np.clip(np.searchsorted(edges_px, objects.side_px, side="right") - 1, 0, len(edges_px) - 2)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 x bins: 95 % of the samples (first axis) that drew an object of the bin; NaN without any."""
    columns = values.reshape(len(values), -1)
    bounds = np.full((2, columns.shape[1]), np.nan)
    for index, column in enumerate(columns.T):
        bounds[:, index] = percentile_interval(column)
    return bounds.reshape(2, *values.shape[1:])
