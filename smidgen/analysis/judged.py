"""What a protocol and an error analysis say of the detections of one data set, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.analysis.error_analysis import ErrorAnalysis, analyze_errors
from smidgen.evaluation import Evaluation, Protocol
from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.scoring import score

HEADLINES = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """The same detections, judged twice by the same protocol."""

    evaluation: Evaluation
    errors: ErrorAnalysis

    def to_json(self) -> dict[str, Any]:
        """Plain values: the evaluation as `smidgen evaluate` gives it, and every part of the error analysis."""
        return {"evaluation": self.evaluation.to_json(), **self.errors.to_json()}

    def headlines(self) -> list[tuple[str, str]]:
        """(value, name) of the protocol's first figures that there is ground truth for."""
        values = [(name, value) for name, value in self.evaluation.metrics.items() if value != -1]
        return [(self.shown(value), name) for name, value in values[:HEADLINES]]

    def shown(self, value: float) -> str:
        """A figure in the protocol's unit; a dash where there is no such ground truth."""
        per_cent = self.evaluation.settings.get("rules", {}).get("unit") == "per_cent"
        return "-" if value == -1 else f"{value:.1f}" if per_cent else f"{value:.3f}"


def judge_twice(
    ground_truth: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    protocol: Protocol,
    settings: Mapping[str, Any],
) -> Judged:
    """ground_truth, predictions: a COCO document and COCO results of it. settings: added to the evaluation's own."""
    evaluation = score(ground_truth, predictions, protocol, settings=settings)
    truth = read_ground_truth(ground_truth)
    return Judged(evaluation, analyze_errors(truth, read_results(predictions, truth), protocol))
