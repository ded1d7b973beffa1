"""A protocol's settings as the lines that stand above every table of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A rule's value -> what is said of it.
WORDS: Mapping[str, Mapping[str, str]] = {
    "limit_per": {"image_and_class": "image and class", "image": "image before the classes are split"},
    "precision": {
        "101_points": "101-point AP",
        "all_points": "AP as the area under the envelope",
        "plain_area": "AP as the plain area under the curve",
    },
    "class_mean": {
        "classes": "every class counts once",
        "images": "a class counts once for each image that holds it",
    },
    "ignored_regions": {
        "crowd": "ignored regions are crowds of all classes",
        "remove": "ignored regions remove what they cover by half",
    },
    "crowds": {"ignored": "crowds are ignored", "objects": "crowd flags are not looked at"},
    "recall_over": {"objects": "recall over objects", "objects_and_ignored": "recall over objects and crowds"},
    "equal_scores": {"in_order": "equal scores in order", "as_numpy_sorts": "equal scores as numpy sorts them"},
    "unit": {"fraction": "in fractions", "per_cent": "in per cent"},
}


AVERAGING = ("precision", "class_mean", "unit")


def rules_in_words(settings: Mapping[str, Any]) -> str:
    """What `Protocol.settings` holds besides the size bins: thresholds and limits, averaging, what is ignored."""
    rules: Mapping[str, Any] = settings.get("rules", {})
    thresholds, limits = settings["iou_thresholds"], ", ".join(str(limit) for limit in settings["detection_limits"])
    span = f"{thresholds[0]:g}" if len(thresholds) == 1 else f"{thresholds[0]:g} to {thresholds[-1]:g}"
    scope = WORDS["limit_per"][rules.get("limit_per", "image_and_class")]
    floor = settings.get("score_floor")
    first = (
        f"IoU {span}, at most {limits} detections per {scope}, {f'scores from {floor:g}' if floor else 'all scores'}"
    )
    averaging = [_said(rule, rules[rule]) for rule in AVERAGING if rule in rules]
    others = [_said(rule, value) for rule, value in rules.items() if rule not in (*AVERAGING, "limit_per")]
    return "\n".join("; ".join(part for part in line if part) for line in ([first], averaging, others) if any(line))


def _said(rule: str, value: Any) -> str:
    """A rule that has no words is named; one that is not set says nothing."""
    if value is None:
        return ""
    if rule == "least_height_px":
        return f"objects of at most {value:g} px height are ignored"
    return WORDS.get(rule, {}).get(str(value), f"{rule}: {value}")


def optimization_in_words(optimized: Mapping[str, Any]) -> str:
    """What `smidgen.optimize` did to the model whose figures these are."""
    compiled = f", compiled by {optimized['compile']}" if optimized["compile"] else ""
    padded = f", canvases padded to multiples of {optimized['bucket_px']} px" if optimized["bucket_px"] else ""
    return f"model optimized: {optimized['dtype']}{compiled}{padded}"


def tiles_in_words(settings: Mapping[str, Any]) -> str:
    """How images were looked at whose figures these are; "" where as a whole."""
    tiling, guide = settings.get("tiling"), settings.get("guide")
    if tiling is None:
        return ""
    extras = [name.replace("_", " ") for name in ("whole_image", "flips") if tiling[name]]
    scales = [f"scales {', '.join(map('{:g}'.format, tiling['scales']))}"] if tiling["scales"] != [1.0] else []
    chosen = [f"at {guide['looked_at']} of {guide['tiles']} tiles, by a guide"] if guide else []
    merging = f"merged by {tiling['merging']['kind']}"
    told = [f"looked at in tiles of {tiling['tile_px']} px that overlap by {tiling['overlap_px']} px", merging]
    return "; ".join([*told, *extras, *scales, *chosen])
