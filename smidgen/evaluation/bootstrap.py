"""How far an AP could be off because these images, and not others, were drawn: the bootstrap over images.

B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979. A resampled data set is one weight per image, so
every image is matched once, and a sample costs sums over its detections. Detections of equal score in several images
stand in the order of the images, as in the engine (also where a protocol leaves that to numpy). The interval is the
percentile one: on few images it leans upwards a little, since repeated images hold fewer different detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results, read_ground_truth, read_results
from smidgen.evaluation.average_precision import images_of_classes, objects_by_image, within_image_limit
from smidgen.evaluation.engine import Engine, Matching
from smidgen.evaluation.ignore_rules import apply_ignore_rules
from smidgen.evaluation.precision_curve import RECALL_LEVELS, PrecisionRule
from smidgen.evaluation.protocol import Figure, Protocol, load_protocol
from smidgen.evaluation.resampling import COVERAGE, percentile_interval, resampled_images

# Detections x samples that are held at once: 32 MB of int64.
CHUNK = 4_000_000


def bootstrap_intervals(
    ground_truth: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    protocol: str | Path | Protocol = "coco",
    *,
    metrics: Sequence[str] = ("AP", "AP50"),
    samples: int = 200,
    seed: int = 0,
    coverage: float = COVERAGE,
) -> dict[str, tuple[float, float]]:
    """For each metric the interval (low, high) that holds `coverage` of the resampled values; (-1, -1) without objects.

    metrics: figures of the protocol that are average precisions. Raises ValueError for other names.
    """
    protocol = load_protocol(protocol)
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    weights = resampled_images(len(truth.image_ids), samples, np.random.default_rng(seed))
    values = resampled_figures(truth, results, protocol, metrics=metrics, weights=weights)
    return {name: percentile_interval(of_metric, coverage, absent=-1.0) for name, of_metric in values.items()}


def resampled_figures(
    truth: GroundTruth,
    results: Results,
    protocol: Protocol,
    *,
    metrics: Sequence[str],
    weights: Int[NDArray[np.int64], "S I"],
) -> dict[str, Float[NDArray[np.float64], " S"]]:
    """Each metric on data sets in which image i occurs weights[s, i] times; NaN where none of its objects was drawn."""
    figures = {name: _figure(protocol, name) for name in metrics}
    truth, results = apply_ignore_rules(truth, results, protocol)
    precisions: dict[tuple[str, int], NDArray[np.float64]] = {}
    values = {}
    for name, figure in figures.items():
        place = (protocol.area_of(figure), protocol.limit_of(figure))
        if place not in precisions:
            precisions[place] = _precisions(truth, results, protocol, place, weights)
        holding = images_of_classes(truth) if protocol.class_mean_of(figure) == "images" else None
        means = _mean_over_classes(_of_figure(precisions[place], protocol, figure), weights, holding)
        values[name] = means * (100 if protocol.unit == "per_cent" else 1)
    return values


def _precisions(
    truth: GroundTruth, results: Results, protocol: Protocol, place: tuple[str, int], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    area, limit = protocol.areas[place[0]], place[1]
    results = within_image_limit(results, limit, protocol)
    matching = Engine(truth, results).match(thresholds=protocol.thresholds, area=area, limit=limit)
    matching = replace(matching, objects=objects_by_image(truth, matching, protocol))
    return average_precisions(matching, results, weights, rule=protocol.precision)


def average_precisions(
    matching: Matching, results: Results, weights: Int[NDArray[np.int64], "S I"], rule: PrecisionRule = "101_points"
) -> Float[NDArray[np.float64], "S T K"]:
    """AP per sample, threshold and class; NaN where the sample holds no object of the class."""
    classes, thresholds = matching.objects.shape[1], len(matching.counted)
    objects = weights @ matching.objects
    values = np.full((len(weights), thresholds, classes), np.nan)
    category, image = results.category[matching.detection], results.image[matching.detection]
    hit = matching.hit
    for index in np.flatnonzero(matching.objects.sum(axis=0)):
        rows = slice(*np.searchsorted(category, [index, index + 1]))
        step = max(1, CHUNK // max(1, rows.stop - rows.start))
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            repeats = weights[part][:, image[rows]]
            kept = np.cumsum(repeats, axis=1)
            for threshold in range(thresholds):
                values[part, threshold, index] = _average_precision(
                    repeats, kept, hit[threshold, rows], matching.counted[threshold, rows], objects[part, index], rule
                )
    return values


def _average_precision(
    repeats: NDArray[np.int64],
    kept: NDArray[np.int64],
    hit: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    objects: NDArray[np.int64],
    rule: PrecisionRule,
) -> NDArray[np.float64]:
    """repeats S D: how often each detection occurs; kept: their running sum.

    Precision is looked at where true positives are, as its envelope peaks nowhere else.
    """
    places, uncounted = np.flatnonzero(hit), np.flatnonzero(~counted)
    found = np.cumsum(repeats[:, places], axis=1)
    detections = kept[:, places] - _sums_before(repeats, uncounted, places)
    precision = np.divide(found, detections, out=np.zeros(found.shape), where=detections > 0)
    # A column of zeros is what recall levels that are not reached read.
    envelope = np.zeros((len(repeats), len(places) + 1))
    envelope[:, :-1] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if rule == "101_points":
        mean = np.take_along_axis(envelope, _first_reaching(found, _needed(objects)), axis=1).mean(axis=1)
        return np.where(objects > 0, mean, np.nan)
    of_places = repeats[:, places]
    height = envelope[:, :-1] * of_places if rule == "all_points" else _joined(found, detections, of_places)
    return np.where(objects > 0, height.sum(axis=1) / np.maximum(objects, 1), np.nan)


def _joined(found: NDArray[np.int64], detections: NDArray[np.int64], repeats: NDArray[np.int64]) -> NDArray[np.float64]:
    """At each true positive, the sum over its repeats of the mean precision of each and of the detection before it.

    found, detections: up to its last repeat. The j-th repeat has precision 1 - wrong / (detections before + j), so that
    a sum over repeats is a difference of harmonic numbers.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(detections.max(initial=0)) + 1))])
    before, wrong = detections - repeats, detections - found
    total = repeats - wrong * (harmonic[detections] - harmonic[before])
    last = np.divide(found, detections, out=np.ones(found.shape), where=detections > 0)
    # With nothing before it, a first true positive starts where it stands.
    first = np.divide(found - repeats, before, out=np.ones(found.shape), where=before > 0)
    return np.asarray(np.where(repeats > 0, total - (last - first) / 2, 0.0))


def _sums_before(
    repeats: NDArray[np.int64], columns: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Per row, the sum of those of `columns` that lie before each place; both are increasing."""
    sums = np.zeros((len(repeats), len(columns) + 1), np.int64)
    np.cumsum(repeats[:, columns], axis=1, out=sums[:, 1:])
    return sums[:, np.searchsorted(columns, places)]


def _needed(objects: NDArray[np.int64]) -> NDArray[np.int64]:
    """True positives that reach each recall level, S R: the smallest n with n / objects >= level in floating point."""
    total = np.maximum(objects, 1)[:, None]
    count = np.floor(RECALL_LEVELS * total).astype(np.int64)
    return count + (count / total < RECALL_LEVELS)


def _first_reaching(found: NDArray[np.int64], needed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Per row, the first column whose count is enough (found's width where none is): one search over all rows."""
    if not found.shape[1]:
        return np.zeros_like(needed)
    rows = np.arange(len(found))[:, None]
    stride = max(int(found.max()), int(needed.max())) + 1
    flat = np.searchsorted((found + rows * stride).ravel(), (needed + rows * stride).ravel())
    column: NDArray[np.int64] = flat.reshape(needed.shape) - rows * found.shape[1]
    return column


def _of_figure(precisions: NDArray[np.float64], protocol: Protocol, figure: Figure) -> NDArray[np.float64]:
    """The figure of each class, S K."""
    chosen = precisions if figure.iou is None else precisions[:, [protocol.threshold_index(figure.iou)]]
    mean: NDArray[np.float64] = chosen.mean(axis=1)
    return mean


def _mean_over_classes(
    values: NDArray[np.float64], weights: NDArray[np.int64], holding: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """holding: which image holds which class, I K; None = every class counts once."""
    shares = np.ones_like(values) if holding is None else (weights @ holding).astype(np.float64)
    shares[np.isnan(values)] = 0
    total, count = (np.nan_to_num(values) * shares).sum(axis=1), shares.sum(axis=1)
    means: NDArray[np.float64] = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return means


def _figure(protocol: Protocol, name: str) -> Figure:
    usable = [key for key, figure in protocol.figures.items() if figure.measure == "average_precision"]
    if name not in usable:
        raise ValueError(f"expected average precisions of {protocol.label} ({', '.join(usable)}), got {name!r}")
    return protocol.figures[name]
