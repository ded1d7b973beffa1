"""Pictures and tables that explain a model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smidgen.analysis.charts import Series, line_chart
from smidgen.analysis.report import Figure, Report, Section, picture_source, render_report

if TYPE_CHECKING:
    from smidgen.analysis.cascade_pictures import (
        ComputedShares,
        computed_cells_picture,
        computed_shares_chart,
        count_computed,
        query_heat_picture,
    )
    from smidgen.analysis.cascade_threshold import ThresholdChoice, threshold_for_recall
    from smidgen.analysis.cascade_tradeoff import Tradeoff, measure_tradeoff, tradeoff_picture
    from smidgen.analysis.class_activation import ClassActivation, class_activation_picture
    from smidgen.analysis.comparison_chart import comparison_picture
    from smidgen.analysis.count_pictures import CountComparison, compare_counts, counting_chart
    from smidgen.analysis.cross_gate_pictures import cross_gate_picture
    from smidgen.analysis.detection_counts import DetectionCounts, count_detections, detection_count_chart
    from smidgen.analysis.effective_receptive_field import ReceptiveField, mean_receptive_field, receptive_field_picture
    from smidgen.analysis.error_analysis import ErrorAnalysis, analyze_errors
    from smidgen.analysis.explanation import Explanation, explain
    from smidgen.analysis.loss_of_objects import trace_objects
    from smidgen.analysis.loss_stages import LossRules
    from smidgen.analysis.loss_table_picture import lost_objects_picture
    from smidgen.analysis.lost_objects_gallery import LostObjectsGallery, gallery_picture
    from smidgen.analysis.object_fates import LostObjects
    from smidgen.analysis.observation import Observation, observe
    from smidgen.analysis.panels import Picture
    from smidgen.analysis.pattern_embedding import PatternVectors, embedding_picture, pattern_vectors
    from smidgen.analysis.pattern_usage import PatternUsage, count_pattern_usage, pattern_usage_picture
    from smidgen.analysis.quality_assignment import AssignmentCounts, count_assignments, quality_assignment_chart
    from smidgen.analysis.query_activation import ActivationCounts, activation_chart, count_activations, gini
    from smidgen.analysis.query_origins import OriginCounts, count_origins, query_level_chart, query_start_picture
    from smidgen.analysis.salience_pictures import refined_tokens_picture, salience_picture
    from smidgen.analysis.score_by_size import ScoresBySize, score_by_size_chart, scores_by_size
    from smidgen.analysis.size_sweep_chart import size_sweep_picture

# Public name -> module that defines it, imported on first use: charts and pages need neither torch nor matplotlib.
_PUBLIC: dict[str, str] = {
    "ActivationCounts": "smidgen.analysis.query_activation",
    "AssignmentCounts": "smidgen.analysis.quality_assignment",
    "ClassActivation": "smidgen.analysis.class_activation",
    "ComputedShares": "smidgen.analysis.cascade_pictures",
    "CountComparison": "smidgen.analysis.count_pictures",
    "DetectionCounts": "smidgen.analysis.detection_counts",
    "ErrorAnalysis": "smidgen.analysis.error_analysis",
    "Explanation": "smidgen.analysis.explanation",
    "LossRules": "smidgen.analysis.loss_stages",
    "LostObjects": "smidgen.analysis.object_fates",
    "LostObjectsGallery": "smidgen.analysis.lost_objects_gallery",
    "Observation": "smidgen.analysis.observation",
    "OriginCounts": "smidgen.analysis.query_origins",
    "PatternUsage": "smidgen.analysis.pattern_usage",
    "PatternVectors": "smidgen.analysis.pattern_embedding",
    "Picture": "smidgen.analysis.panels",
    "ReceptiveField": "smidgen.analysis.effective_receptive_field",
    "ScoresBySize": "smidgen.analysis.score_by_size",
    "ThresholdChoice": "smidgen.analysis.cascade_threshold",
    "Tradeoff": "smidgen.analysis.cascade_tradeoff",
    "activation_chart": "smidgen.analysis.query_activation",
    "analyze_errors": "smidgen.analysis.error_analysis",
    "class_activation_picture": "smidgen.analysis.class_activation",
    "compare_counts": "smidgen.analysis.count_pictures",
    "comparison_picture": "smidgen.analysis.comparison_chart",
    "computed_cells_picture": "smidgen.analysis.cascade_pictures",
    "computed_shares_chart": "smidgen.analysis.cascade_pictures",
    "count_activations": "smidgen.analysis.query_activation",
    "count_assignments": "smidgen.analysis.quality_assignment",
    "count_computed": "smidgen.analysis.cascade_pictures",
    "count_detections": "smidgen.analysis.detection_counts",
    "count_origins": "smidgen.analysis.query_origins",
    "count_pattern_usage": "smidgen.analysis.pattern_usage",
    "counting_chart": "smidgen.analysis.count_pictures",
    "cross_gate_picture": "smidgen.analysis.cross_gate_pictures",
    "detection_count_chart": "smidgen.analysis.detection_counts",
    "embedding_picture": "smidgen.analysis.pattern_embedding",
    "explain": "smidgen.analysis.explanation",
    "gallery_picture": "smidgen.analysis.lost_objects_gallery",
    "gini": "smidgen.analysis.query_activation",
    "lost_objects_picture": "smidgen.analysis.loss_table_picture",
    "mean_receptive_field": "smidgen.analysis.effective_receptive_field",
    "measure_tradeoff": "smidgen.analysis.cascade_tradeoff",
    "observe": "smidgen.analysis.observation",
    "pattern_usage_picture": "smidgen.analysis.pattern_usage",
    "pattern_vectors": "smidgen.analysis.pattern_embedding",
    "quality_assignment_chart": "smidgen.analysis.quality_assignment",
    "query_heat_picture": "smidgen.analysis.cascade_pictures",
    "query_level_chart": "smidgen.analysis.query_origins",
    "query_start_picture": "smidgen.analysis.query_origins",
    "receptive_field_picture": "smidgen.analysis.effective_receptive_field",
    "refined_tokens_picture": "smidgen.analysis.salience_pictures",
    "salience_picture": "smidgen.analysis.salience_pictures",
    "score_by_size_chart": "smidgen.analysis.score_by_size",
    "scores_by_size": "smidgen.analysis.score_by_size",
    "size_sweep_picture": "smidgen.analysis.size_sweep_chart",
    "threshold_for_recall": "smidgen.analysis.cascade_threshold",
    "trace_objects": "smidgen.analysis.loss_of_objects",
    "tradeoff_picture": "smidgen.analysis.cascade_tradeoff",
}

__all__ = [
    "ActivationCounts",
    "AssignmentCounts",
    "ClassActivation",
    "ComputedShares",
    "CountComparison",
    "DetectionCounts",
    "ErrorAnalysis",
    "Explanation",
    "Figure",
    "LossRules",
    "LostObjects",
    "LostObjectsGallery",
    "Observation",
    "OriginCounts",
    "PatternUsage",
    "PatternVectors",
    "Picture",
    "ReceptiveField",
    "Report",
    "ScoresBySize",
    "Section",
    "Series",
    "ThresholdChoice",
    "Tradeoff",
    "activation_chart",
    "analyze_errors",
    "class_activation_picture",
    "compare_counts",
    "comparison_picture",
    "computed_cells_picture",
    "computed_shares_chart",
    "count_activations",
    "count_assignments",
    "count_computed",
    "count_detections",
    "count_origins",
    "count_pattern_usage",
    "counting_chart",
    "cross_gate_picture",
    "detection_count_chart",
    "embedding_picture",
    "explain",
    "gallery_picture",
    "gini",
    "line_chart",
    "lost_objects_picture",
    "mean_receptive_field",
    "measure_tradeoff",
    "observe",
    "pattern_usage_picture",
    "pattern_vectors",
    "picture_source",
    "quality_assignment_chart",
    "query_heat_picture",
    "query_level_chart",
    "query_start_picture",
    "receptive_field_picture",
    "refined_tokens_picture",
    "render_report",
    "salience_picture",
    "score_by_size_chart",
    "scores_by_size",
    "size_sweep_picture",
    "threshold_for_recall",
    "trace_objects",
    "tradeoff_picture",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.analysis' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
