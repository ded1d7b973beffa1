"""Anybody's predictions, judged by a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.evaluation.annotations import GroundTruth, Results, read_ground_truth, read_results
from smidgen.evaluation.doubts import doubts
from smidgen.evaluation.evaluation import Evaluation
from smidgen.evaluation.figures import Figures, compute_figures
from smidgen.evaluation.ignore_rules import apply_ignore_rules
from smidgen.evaluation.protocol import Protocol, load_protocol


def score(
    ground_truth: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    protocol: str | Path | Protocol = "coco",
    *,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Figures of COCO results against COCO ground truth.

    ground_truth: images, annotations (iscrowd=1 = to be ignored, see `evaluation.annotations`) and categories.
    predictions: image_id, category_id, bbox [x, y, width, height] in pixels of the original image, score. settings:
    added to the evaluation's own.
    Raises ValueError where the two do not belong together. Detections that are not finite are dropped and counted in
    settings["non_finite"].
    """
    protocol = load_protocol(protocol)
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    judged, judged_results = apply_ignore_rules(truth, results, protocol)
    figures = compute_figures(judged, judged_results, protocol)
    return Evaluation(
        protocol=protocol.label,
        metrics=figures.overall,
        per_class=figures.by_class,
        settings={
            **_settings(protocol, settings or {}),
            **_counts(judged, figures, protocol),
            **_ignored(truth, results, judged, judged_results, protocol),
            "doubts": list(doubts(truth, results)),
        },
        predictions=predictions,
    )


def _settings(protocol: Protocol, given: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol's and the caller's, of whom a score floor counts only where the protocol has none."""
    own = protocol.settings()
    floor = own["score_floor"] if own["score_floor"] is not None else given.get("score_floor")
    return {**own, **given, "score_floor": floor}


def _counts(judged: GroundTruth, figures: Figures, protocol: Protocol) -> dict[str, Any]:
    by_class = np.bincount(judged.category[~judged.crowd], minlength=len(judged.category_ids))
    return {
        "images": len(judged.image_ids),
        "objects": int(by_class.sum()),
        "objects_by_area": {name: judged.objects_in(bounds) for name, bounds in protocol.areas.items()},
        "objects_by_class": dict(zip(judged.labels, by_class.tolist(), strict=True)),
        "images_by_class": figures.images_by_class,
        "figures_by_area": _figures_by_area(protocol),
    }


def _ignored(
    truth: GroundTruth, results: Results, judged: GroundTruth, judged_results: Results, protocol: Protocol
) -> dict[str, int]:
    """What there is to ignore, and how much the protocol's rules took out before matching."""
    annotations = np.count_nonzero(~truth.region) - np.count_nonzero(~judged.region)
    return {
        "ignored_regions": truth.num_ignored if protocol.ignored_regions == "remove" else judged.num_ignored,
        "annotations_removed": int(annotations),
        "detections": len(results.scores),
        "detections_removed": len(results.scores) - len(judged_results.scores),
        "non_finite": results.non_finite,
    }


def _figures_by_area(protocol: Protocol) -> dict[str, dict[str, str]]:
    """For each size bin, which figures are its mean AP and AR at the largest limit that they come with."""
    columns = {"average_precision": "AP", "average_recall": "AR"}
    table: dict[str, dict[str, str]] = {name: {} for name in protocol.areas}
    usual = [item for item in protocol.figures.items() if item[1].iou is None and item[1].class_mean is None]
    for name, figure in sorted(usual, key=lambda item: -protocol.limit_of(item[1])):
        if figure.measure in columns:
            table[protocol.area_of(figure)].setdefault(columns[figure.measure], name)
    return table
