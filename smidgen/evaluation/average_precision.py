"""Average precision and recall of every class, from who matched whom, for the rules that COCO's engine does not know.

VisDrone-DET toolkit (Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021): a limit takes an image's
best detections before its classes are split, and AP is the area under the monotone precision envelope. A detection's
match depends on better ones of its class alone, so one matching without a limit serves all limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.detection_order import rank_within, within_limit
from smidgen.evaluation.engine import Curves, Engine, Matching
from smidgen.evaluation.equal_scores import order_in_images, order_over_images
from smidgen.evaluation.precision_curve import average_precision
from smidgen.evaluation.protocol import Protocol


@dataclass(frozen=True, slots=True)
class ClassScores:
    """By threshold T, class K, area A, limit M; NaN where there is nothing to find."""

    precision: Float[NDArray[np.float64], "T K A M"]
    recall: Float[NDArray[np.float64], "T K A M"]


def class_scores(engine: Engine, protocol: Protocol) -> ClassScores:
    """AP (a mean over recall) and recall by the protocol's rules; COCO's go to the engine as they are."""
    areas, limits = list(protocol.areas.values()), protocol.detection_limits
    if follows_coco(protocol):
        return _of_curves(engine.judge(thresholds=protocol.thresholds, areas=areas, limits=limits))
    truth, results = engine.truth, within_image_limit(engine.results, limits[-1], protocol)
    ranks = rank_within(results, protocol.limit_per)
    if protocol.equal_scores == "as_numpy_sorts":
        order = order_in_images(results)
        results, ranks = results.taken(order), ranks[order]
    matching = Engine(truth, results)
    shape = (len(protocol.thresholds), len(truth.category_ids), len(areas), len(limits))
    scores = ClassScores(np.full(shape, np.nan), np.full(shape, np.nan))
    for index, area in enumerate(areas):
        matched = matching.match(thresholds=protocol.thresholds, area=area, limit=limits[-1])
        objects = objects_by_image(truth, matched, protocol).sum(axis=0)
        of_area = limited_scores(matched, results, objects, ranks, protocol)
        scores.precision[:, :, index], scores.recall[:, :, index] = of_area
    return scores


def precision_by_size(
    truth: GroundTruth, results: Results, protocol: Protocol
) -> dict[str, Float[NDArray[np.float64], "T K"]]:
    """For every size bin COCO's AP by threshold and class at the largest limit, whatever the protocol's other rules;
    NaN without objects of the class."""
    areas, limits = list(protocol.areas.values()), protocol.detection_limits[-1:]
    curves = Engine(truth, results).judge(thresholds=protocol.thresholds, areas=areas, limits=limits)
    precision = _of_curves(curves).precision[..., 0]
    return {size: precision[..., index] for index, size in enumerate(protocol.areas)}


def follows_coco(protocol: Protocol) -> bool:
    """Whether COCO's engine knows all rules that matter once the ignore rules have been applied."""
    coco = ("image_and_class", "101_points", "objects", "in_order")
    return (protocol.limit_per, protocol.precision, protocol.recall_over, protocol.equal_scores) == coco


def within_image_limit(results: Results, limit: int, protocol: Protocol) -> Results:
    """Results without those that a limit on whole images cuts off; a limit per image and class is the engine's own."""
    return results if protocol.limit_per != "image" else within_limit(results, limit, "image")


def objects_by_image(truth: GroundTruth, matching: Matching, protocol: Protocol) -> Int[NDArray[np.int64], "I K"]:
    """What recall is a share of, per image and class."""
    if protocol.recall_over == "objects":
        return matching.objects
    ignored = np.zeros_like(matching.objects)
    np.add.at(ignored, (truth.image[truth.crowd], truth.category[truth.crowd]), 1)
    return matching.objects + ignored


def images_of_classes(truth: GroundTruth) -> Bool[NDArray[np.bool_], "I K"]:
    """Which image holds an annotation of which class, ignored ones included as in VisDrone's toolkit."""
    holding = np.zeros((len(truth.image_ids), len(truth.category_ids)), np.bool_)
    holding[truth.image, truth.category] = True
    return holding


def limited_scores(
    matching: Matching,
    results: Results,
    objects: Int[NDArray[np.int64], " K"],
    ranks: Int[NDArray[np.int64], " D"],
    protocol: Protocol,
) -> tuple[Float[NDArray[np.float64], "T K M"], Float[NDArray[np.float64], "T K M"]]:
    """AP and recall of one size bin with only the detections of a rank below each limit."""
    shape = (len(matching.counted), len(objects), len(protocol.detection_limits))
    precision, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    category, rank = results.category[matching.detection], ranks[matching.detection]
    for index in np.flatnonzero(objects):
        of_class = np.arange(*np.searchsorted(category, [index, index + 1]))
        for column, limit in enumerate(protocol.detection_limits):
            rows = of_class[rank[of_class] < limit]
            if protocol.equal_scores == "as_numpy_sorts":
                detection = matching.detection[rows]
                rows = rows[order_over_images(results.scores[detection], detection)]
            hit, counted = matching.hit[:, rows], matching.counted[:, rows]
            recall[:, index, column] = hit.sum(axis=1) / objects[index]
            precision[:, index, column] = [
                average_precision(right[kept], int(objects[index]), protocol.precision)
                for right, kept in zip(hit, counted, strict=True)
            ]
    return precision, recall


def _of_curves(curves: Curves) -> ClassScores:
    absent = curves.recall < 0
    return ClassScores(np.where(absent, np.nan, curves.precision.mean(axis=1)), np.where(absent, np.nan, curves.recall))
