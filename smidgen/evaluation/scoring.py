"""Anybody's predictions, judged by a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.evaluation.annotations import GroundTruth, Results, read_ground_truth, read_results
from smidgen.evaluation.evaluation import Evaluation
from smidgen.evaluation.figures import class_labels, compute_figures
from smidgen.evaluation.protocol import Protocol, load_protocol


def score(
    ground_truth: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    protocol: str | Path | Protocol = "coco",
    *,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Figures of COCO results against COCO ground truth.

    ground_truth: images, annotations (iscrowd=1 = region to ignore) and categories. predictions: image_id, category_id,
    bbox [x, y, width, height] in pixels of the original image, score. settings: added to the evaluation's own.
    Raises ValueError where the two do not belong together. Detections that are not finite are dropped and counted in
    settings["non_finite"].
    """
    protocol = load_protocol(protocol)
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    figures = compute_figures(truth, results, protocol)
    return Evaluation(
        protocol=protocol.label,
        metrics=figures.overall,
        per_class=figures.by_class,
        settings={**protocol.settings(), **_counts(truth, results, protocol), **(settings or {})},
        predictions=predictions,
    )


def _counts(truth: GroundTruth, results: Results, protocol: Protocol) -> dict[str, Any]:
    by_class = np.bincount(truth.category[~truth.crowd], minlength=len(truth.category_ids))
    return {
        "images": len(truth.image_ids),
        "objects": int(by_class.sum()),
        "objects_by_area": {name: truth.objects_in(bounds) for name, bounds in protocol.areas.items()},
        "objects_by_class": dict(zip(class_labels(truth), by_class.tolist(), strict=True)),
        "ignored_regions": int(truth.crowd.sum()),
        "detections": len(results.scores),
        "non_finite": results.non_finite,
        "figures_by_area": _figures_by_area(protocol),
    }


def _figures_by_area(protocol: Protocol) -> dict[str, dict[str, str]]:
    """For each size bin, which figures are its mean AP and AR at the protocol's largest limit."""
    columns = {"average_precision": "AP", "average_recall": "AR"}
    table: dict[str, dict[str, str]] = {name: {} for name in protocol.areas}
    for name, figure in protocol.figures.items():
        main = figure.iou is None and protocol.limit_of(figure) == protocol.detection_limits[-1]
        if main and figure.measure in columns:
            table[protocol.area_of(figure)].setdefault(columns[figure.measure], name)
    return table
