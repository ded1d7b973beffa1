"""What ground truth and predictions alone tell about a detector's errors, by object size; no model needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.average_precision import within_image_limit
from smidgen.evaluation.calibration import Calibration, calibration, scores_are_shares
from smidgen.evaluation.confusion import ConfusionMatrix, confusion_matrix
from smidgen.evaluation.error_types import ErrorTypes, error_types
from smidgen.evaluation.greedy_matching import match_contest, open_contest
from smidgen.evaluation.ignore_rules import apply_ignore_rules
from smidgen.evaluation.label_noise import LabelNoise, label_noise
from smidgen.evaluation.overlap import AITOD_CONSTANT_PX, intersection_over_union
from smidgen.evaluation.precision_recall import PrecisionRecall, precision_recall
from smidgen.evaluation.protocol import Protocol
from smidgen.evaluation.wasserstein import WassersteinComparison, wasserstein_comparison

if TYPE_CHECKING:
    from smidgen.analysis.panels import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnalysis:
    """The parts, each by the protocol's size bins. calibration: None where scores are not in [0, 1].
    label_noise: None where it was not asked for."""

    protocol: str
    errors: ErrorTypes
    curves: PrecisionRecall
    confusion: ConfusionMatrix
    calibration: Calibration | None
    label_noise: LabelNoise | None
    wasserstein: WassersteinComparison

    def to_json(self) -> dict[str, Any]:
        """Plain values; parts that there are not are None."""
        return {
            "protocol": self.protocol,
            "error_types": self.errors.to_json(),
            "precision_recall": self.curves.to_json(),
            "confusion": self.confusion.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "label_noise": None if self.label_noise is None else self.label_noise.to_json(),
            "wasserstein": self.wasserstein.to_json(),
        }

    def pictures(self) -> dict[str, Picture]:
        """One picture per part, by file name without ending."""
        # Here, because pictures bring torch with them, which the numbers alone do not need.
        from smidgen.analysis.calibration_chart import calibration_chart
        from smidgen.analysis.confusion_picture import confusion_picture
        from smidgen.analysis.error_type_chart import error_type_chart
        from smidgen.analysis.label_noise_chart import label_noise_chart, wasserstein_chart
        from smidgen.analysis.precision_recall_chart import precision_recall_chart

        pictures = {
            "error_types": error_type_chart(self.errors),
            "precision_recall": precision_recall_chart(self.curves),
            "confusion": confusion_picture(self.confusion),
        }
        if self.calibration is not None:
            pictures["calibration"] = calibration_chart(self.calibration)
        if self.label_noise is not None:
            pictures["label_noise"] = label_noise_chart(self.label_noise)
        return pictures | {"wasserstein": wasserstein_chart(self.wasserstein)}


def analyze_errors(
    truth: GroundTruth,
    results: Results,
    protocol: Protocol,
    *,
    iou_threshold: float = 0.5,
    background_threshold: float = 0.1,
    score_threshold: float | None = None,
    noise_pixels: float = 1,
    noise_seeds: int = 5,
    wasserstein_constant_px: float = AITOD_CONSTANT_PX,
) -> ErrorAnalysis:
    """All parts under the protocol's ignore rules, size bins, thresholds and largest detection limit.

    Average precision is COCO's here, at 101 recalls and over classes, also where a protocol reports it otherwise.

    score_threshold: of the confusion matrix; None = the best F1 of all classes together. noise_seeds: 0 leaves label
    noise out, which costs two evaluations per seed. Raises ValueError for thresholds that make no sense.
    """
    limit = protocol.detection_limits[-1]
    truth, results = apply_ignore_rules(truth, results, protocol)
    results = within_image_limit(results, limit, protocol)
    errors = error_types(
        truth, results, protocol, iou_threshold=iou_threshold, background_threshold=background_threshold
    )
    contest = open_contest(truth, results, intersection_over_union, lowest_threshold=iou_threshold, limit=limit)
    matchings = {
        size: match_contest(contest, truth, results, thresholds=np.array([iou_threshold]), area=bounds)
        for size, bounds in protocol.areas.items()
    }
    curves = precision_recall(truth, results, matchings, iou_threshold)
    if score_threshold is None:
        best = curves.pooled[0].best
        score_threshold = 0.0 if best is None else best.score
    return ErrorAnalysis(
        protocol=protocol.label,
        errors=errors,
        curves=curves,
        confusion=confusion_matrix(truth, results, score_threshold=score_threshold, iou_threshold=iou_threshold),
        calibration=calibration(results, matchings, iou_threshold) if scores_are_shares(results) else None,
        label_noise=label_noise(truth, results, protocol, pixels=noise_pixels, seeds=noise_seeds)
        if noise_seeds
        else None,
        wasserstein=wasserstein_comparison(truth, results, protocol, constant_px=wasserstein_constant_px),
    )
