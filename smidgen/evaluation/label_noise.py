"""How much of an AP is annotation noise: the same detections, judged by boxes whose edges are off by a pixel.

Annotators draw edges to about a pixel. On a 10 x 10 box that alone takes IoU to 0.7 or so, and differences of AP below
its effect say nothing about models. The ceiling is what an annotator would score who detects every object, with the
exact original boxes, but is judged by the noisy ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.average_precision import precision_by_size
from smidgen.evaluation.overlap import aligned_iou
from smidgen.evaluation.protocol import Protocol


@dataclass(frozen=True, slots=True)
class NoiseBySize:
    """One size bin. exact: AP as given. noisy: one AP per seed. ceiling: mean AP of the original boxes. iou: mean IoU
    of original and noisy boxes. All -1 without objects."""

    size: str
    objects: int
    exact: float
    noisy: Float[NDArray[np.float64], " S"]
    ceiling: float
    iou: float

    @property
    def mean(self) -> float:
        """Mean AP over seeds."""
        return float(self.noisy.mean())

    @property
    def spread(self) -> float:
        """Standard deviation of AP over seeds; a difference below twice that is within annotation noise."""
        return float(self.noisy.std(ddof=1)) if len(self.noisy) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "size": self.size,
            "objects": self.objects,
            "AP": self.exact,
            "AP_noisy": self.mean,
            "AP_spread": self.spread,
            "AP_ceiling": self.ceiling,
            "iou_of_labels": self.iou,
        }


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """AP under label noise, per size bin. kind: "uniform" (whole pixels up to `pixels`) or "normal" (deviation)."""

    kind: str
    pixels: float
    seeds: int
    by_size: tuple[NoiseBySize, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kind": self.kind,
            "pixels": self.pixels,
            "seeds": self.seeds,
            "by_size": [size.to_json() for size in self.by_size],
        }


def label_noise(
    truth: GroundTruth,
    results: Results,
    protocol: Protocol,
    *,
    pixels: float = 1,
    normal: bool = False,
    seeds: int = 5,
) -> LabelNoise:
    """AP over the protocol's thresholds, with every edge of every object moved, `seeds` times.

    pixels: edges move by whole pixels of -pixels ... pixels; with `normal`, the standard deviation. Objects stay in
    the size bin of their original area.
    """
    exact = _by_size(truth, results, protocol)
    noisy, ceiling, iou = [], [], []
    for seed in range(seeds):
        moved = jittered(truth, np.random.default_rng(seed), pixels=pixels, normal=normal)
        noisy.append(_by_size(moved, results, protocol))
        ceiling.append(_by_size(moved, _as_results(truth), protocol))
        iou.append(_label_iou(truth, moved, protocol))
    return LabelNoise(
        "normal" if normal else "uniform",
        float(pixels),
        seeds,
        tuple(
            NoiseBySize(
                size,
                truth.objects_in(bounds),
                float(exact[index]),
                np.array([values[index] for values in noisy]),
                float(np.mean([values[index] for values in ceiling])),
                float(np.mean([values[index] for values in iou])),
            )
            for index, (size, bounds) in enumerate(protocol.areas.items())
        ),
    )


def jittered(truth: GroundTruth, rng: np.random.Generator, *, pixels: float = 1, normal: bool = False) -> GroundTruth:
    """The objects with moved edges, each side at least 1 px (or as short as it was); areas and crowds as they were."""
    shape = truth.boxes_xywh.shape
    shift = rng.normal(0, pixels, shape) if normal else rng.integers(-int(pixels), int(pixels) + 1, shape)
    shift = np.where(truth.crowd[:, None], 0, shift)
    corners, sides = truth.boxes_xywh[:, :2], truth.boxes_xywh[:, 2:]
    moved = np.maximum(sides + shift[:, 2:] - shift[:, :2], np.minimum(sides, 1.0))
    return replace(truth, boxes_xywh=np.concatenate([corners + shift[:, :2], moved], axis=1))


def _by_size(truth: GroundTruth, results: Results, protocol: Protocol) -> NDArray[np.float64]:
    """AP of every size bin at the protocol's largest limit; -1 without objects."""
    values = precision_by_size(truth, results, protocol).values()
    return np.array([-1.0 if np.isnan(of_size).all() else np.nanmean(of_size) for of_size in values])


def _as_results(truth: GroundTruth) -> Results:
    kept = ~truth.crowd
    return Results(
        image=truth.image[kept],
        category=truth.category[kept],
        boxes_xywh=truth.boxes_xywh[kept],
        scores=np.ones(int(kept.sum())),
        non_finite=0,
    )


def _label_iou(truth: GroundTruth, moved: GroundTruth, protocol: Protocol) -> list[float]:
    iou = aligned_iou(truth.boxes_xywh, moved.boxes_xywh)
    masks = [truth.wanted(bounds) for bounds in protocol.areas.values()]
    return [float(iou[mask].mean()) if mask.any() else -1.0 for mask in masks]
