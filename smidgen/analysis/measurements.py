"""What can be counted over all images and drawn of single ones, and what a model must do so that there is any of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from smidgen.analysis.cascade_pictures import (
    computed_cells_picture,
    computed_shares_chart,
    count_computed,
    query_heat_picture,
    why_no_computed_cells,
    why_no_query_heat,
)
from smidgen.analysis.class_activation import why_no_class_activation
from smidgen.analysis.count_pictures import compare_counts, counting_chart
from smidgen.analysis.cross_gate_pictures import cross_gate_picture, why_no_cross_gate
from smidgen.analysis.detection_counts import count_detections, detection_count_chart
from smidgen.analysis.finest_level_pictures import finest_level_picture, why_no_finest_level
from smidgen.analysis.loss_stages import LossRules
from smidgen.analysis.loss_table_picture import lost_objects_picture
from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture
from smidgen.analysis.pattern_embedding import embedding_picture, pattern_vectors
from smidgen.analysis.pattern_usage import count_pattern_usage, pattern_usage_picture, why_no_patterns
from smidgen.analysis.quality_assignment import count_assignments, quality_assignment_chart, why_no_quality
from smidgen.analysis.query_activation import activation_chart, count_activations
from smidgen.analysis.query_origins import count_origins, query_level_chart, query_start_picture, why_no_origins
from smidgen.analysis.salience_pictures import refined_tokens_picture, salience_picture
from smidgen.analysis.score_by_size import score_by_size_chart, scores_by_size
from smidgen.analysis.traced_losses import trace_losses
from smidgen.structures import evidence_of
from smidgen.tokens.object_counting import ObjectCount
from smidgen.tokens.salience_filtering import SalienceMaps

DrawImage = Callable[[Observation, int], Picture]

DRAW_OF_IMAGE: dict[str, DrawImage] = {
    "salience": salience_picture,
    "refined_tokens": refined_tokens_picture,
    "query_starts": query_start_picture,
    "cross_gate": cross_gate_picture,
    "query_heat": query_heat_picture,
    "computed_cells": computed_cells_picture,
    "finest_level": finest_level_picture,
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is counted over all images.

    missing: why there is none of this model (None = there is). count: one batch; counts of batches add up and have
    `to_json`. draw: the sum, with the names of the model's classes.
    """

    missing: Callable[[Observation], str | None]
    count: Callable[[Observation], Any]
    draw: Callable[[Any, Sequence[str]], Picture]


def _why_no_count(observation: Observation) -> str | None:
    counted = evidence_of(observation.output.evidence, ObjectCount) is not None
    return None if counted else "it does not count objects"


def _why_no_queries(observation: Observation) -> str | None:
    return None if observation.dense is None else "it is a dense detector: its cells answer, not a decoder's queries"


def _why_no_query_origins(observation: Observation) -> str | None:
    return _why_no_queries(observation) or why_no_origins(observation)


def _nothing_missing(observation: Observation) -> str | None:
    return None


MEASUREMENTS: dict[str, Measurement] = {
    "query_levels": Measurement(_why_no_query_origins, count_origins, lambda total, _: query_level_chart(total)),
    "query_activation": Measurement(_why_no_queries, count_activations, lambda total, _: activation_chart(total)),
    "quality_assignment": Measurement(
        why_no_quality, count_assignments, lambda total, _: quality_assignment_chart(total)
    ),
    "pattern_usage": Measurement(why_no_patterns, count_pattern_usage, pattern_usage_picture),
    "pattern_embedding": Measurement(why_no_patterns, pattern_vectors, embedding_picture),
    "counting": Measurement(_why_no_count, compare_counts, lambda total, _: counting_chart(total)),
    "computed_shares": Measurement(
        why_no_computed_cells, count_computed, lambda total, _: computed_shares_chart(total)
    ),
    "loss_of_objects": Measurement(
        _nothing_missing,
        partial(trace_losses, rules=LossRules(), class_names=()),
        lambda total, _: lost_objects_picture(total.lost),
    ),
    "score_by_size": Measurement(_nothing_missing, scores_by_size, lambda total, _: score_by_size_chart(total)),
    "detection_counts": Measurement(_nothing_missing, count_detections, lambda total, _: detection_count_chart(total)),
}


def missing_pictures(model: nn.Module, observation: Observation) -> dict[str, str]:
    """Kind of picture -> what the model lacks for it; kinds that can be drawn are not in it."""
    reasons = {kind: measurement.missing(observation) for kind, measurement in MEASUREMENTS.items()}
    reasons["query_starts"] = reasons["query_levels"]
    reasons["class_activation"] = why_no_class_activation(model)
    reasons["cross_gate"] = why_no_cross_gate(observation)
    reasons["query_heat"] = why_no_query_heat(observation)
    reasons["computed_cells"] = why_no_computed_cells(observation)
    reasons["finest_level"] = why_no_finest_level(observation)
    if evidence_of(observation.output.evidence, SalienceMaps) is None:
        reasons |= dict.fromkeys(("salience", "refined_tokens"), "it does not filter tokens by salience")
    return {kind: reason for kind, reason in reasons.items() if reason is not None}
