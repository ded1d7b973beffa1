"""The numbers behind the charts of a system's inside, as tables of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smidgen.analysis.cascade_pictures import ComputedShares
from smidgen.analysis.count_pictures import CountComparison
from smidgen.analysis.detection_counts import DetectionCounts
from smidgen.analysis.effective_receptive_field import SHARES, ReceptiveField
from smidgen.analysis.pattern_usage import PatternUsage
from smidgen.analysis.quality_assignment import AssignmentCounts
from smidgen.analysis.query_activation import ActivationCounts, inequality
from smidgen.analysis.query_origins import SIZE_NAMES, OriginCounts
from smidgen.analysis.score_by_size import ScoresBySize

ACTIVE_WHERE = {
    "score": "has a class score above 0.3",
    "matched": "answers for an object",
    "topk": "is in the 100 best detections",
}


def measurement_tables(
    totals: Mapping[str, Any], receptive_fields: Mapping[str, ReceptiveField], class_names: Sequence[str]
) -> dict[str, list[list[str]]]:
    """By kind of measurement: rows of cells, the first being the header."""
    tables = {kind: table(totals[kind]) for kind, table in TABLES.items() if kind in totals}
    if "pattern_usage" in totals:
        tables["pattern_usage"] = _pattern_table(totals["pattern_usage"], class_names)
    if receptive_fields:
        tables["receptive_field"] = _field_table(receptive_fields)
    return tables


def _origin_table(origins: OriginCounts) -> list[list[str]]:
    header = ["", *(f"stride {stride}" for stride in origins.strides), "no query left", "in all", "IoU 0.5"]
    rows = [header, ["all queries", *map(str, origins.queries.tolist()), "", str(origins.queries.sum()), ""]]
    for number, name in enumerate(SIZE_NAMES):
        matched, objects, found = origins.matched[number], origins.objects[number], origins.found[number]
        share = f"{found / objects:.0%}" if objects else "-"
        rows.append([f"objects {name}", *map(str, matched.tolist()), str(objects - matched.sum()), str(objects), share])
    return rows


def _count_table(counting: CountComparison) -> list[list[str]]:
    header = ["objects in the image", "images", "right class", "queries, fewest - most"]
    rows = [header]
    for number, name in enumerate(counting.class_names):
        images = [image for image in counting.images if counting.true_class(image) == number]
        queries = [image.queries for image in images]
        right = sum(image.counted_class == number for image in images)
        budget = f"{min(queries)} - {max(queries)}" if queries else "-"
        rows.append([name, str(len(images)), str(right), budget])
    return rows


def _activation_table(counts: ActivationCounts) -> list[list[str]]:
    rows = [["a query is active where it", "Gini", "part of the top fifth", "ever active", "entropy"]]
    for name, words in ACTIVE_WHERE.items():
        figures = inequality(counts.rates(name))
        shares = [f"{figures[key]:.0%}" for key in ("pareto_20", "active_fraction")]
        rows.append([words, f"{figures['gini']:.3f}", *shares, f"{figures['entropy']:.2f}"])
    return rows


def _assignment_table(counts: AssignmentCounts) -> list[list[str]]:
    rows = [["decoder layer", "asked per object", "answering per object", "mean IoU", "IoU below 0.1", "contested"]]
    for row in counts.to_json()["layers"]:
        numbers = [row[key] for key in ("asked_per_object", "positives_per_object", "mean_iou", "poor", "contested")]
        rows.append([str(row["layer"] + 1), *("-" if value is None else f"{value:.2f}" for value in numbers)])
    return rows


def _pattern_table(usage: PatternUsage, class_names: Sequence[str]) -> list[list[str]]:
    values = usage.to_json()
    rows = [["class", "true detections", "effective patterns"]]
    rows.append(["all queries", "", f"{values['effective_patterns']:.1f}"])
    for row in values["by_class"]:
        rows.append([class_names[row["class"]], str(row["true_detections"]), f"{row['effective_patterns']:.1f}"])
    return rows


def _computed_table(shares: ComputedShares) -> list[list[str]]:
    rows = [["level", "keys", "computed", "computed, most in an image"]]
    for row in shares.to_json()["levels"]:
        values = [f"{row[key]:.1%}" for key in ("keys", "computed", "most_computed")]
        rows.append([f"stride {row['stride']} px", *values])
    return rows


def _score_table(scores: ScoresBySize) -> list[list[str]]:
    rows = [["size of the detected box", "detections", "mean score"]]
    for row in scores.to_json()["by_size"]:
        mean = "-" if row["mean_score"] is None else f"{row['mean_score']:.3f}"
        rows.append([row["size"], str(row["detections"]), mean])
    return rows


def _detection_table(counts: DetectionCounts) -> list[list[str]]:
    rows = [["least score", "detections per image", "too many or too few, per image"]]
    for row in counts.to_json()["by_threshold"][1::2]:
        rows.append([f"{row['score']:g}", f"{row['detections_per_image']:.1f}", f"{row['mean_error']:.1f}"])
    return rows


def _field_table(fields: Mapping[str, ReceptiveField]) -> list[list[str]]:
    header = ["side of the square that holds", *(f"{share:.0%}" for share in SHARES)]
    rows = [[f"{name}, stride {one.stride} px", *(f"{one.side_px(share)} px" for share in SHARES)]
            for name, one in fields.items()]  # fmt: skip
    return [header, *rows]


TABLES: dict[str, Callable[[Any], list[list[str]]]] = {
    "query_levels": _origin_table,
    "query_activation": _activation_table,
    "quality_assignment": _assignment_table,
    "counting": _count_table,
    "computed_shares": _computed_table,
    "score_by_size": _score_table,
    "detection_counts": _detection_table,
}
