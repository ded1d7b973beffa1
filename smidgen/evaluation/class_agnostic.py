"""Found or not, whatever it was called: ground truth and detections with all classes made one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

OBJECT = {"id": 1, "name": "object"}


def without_classes(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO ground truth and results in which every category is the one category "object".

    A crowd of one class becomes a crowd of objects; a crowd that stands there for every class, or for none, stays a
    region about no class, told once. Detections of one object under several classes stay, and all but one are wrong.
    """
    known = {int(category["id"]) for category in ground_truth["categories"]}
    about: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
    for entry in ground_truth["annotations"]:
        if entry.get("iscrowd", 0):
            about[_place(entry)].add(entry.get("category_id"))
    everywhere = {
        place for place, classes in about.items() if (len(known) > 1 and classes >= known) or not classes <= known
    }
    annotations: list[dict[str, Any]] = []
    for entry in ground_truth["annotations"]:
        if not entry.get("iscrowd", 0) or _place(entry) not in everywhere:
            annotations.append({**entry, "category_id": OBJECT["id"]})
        elif about.pop(_place(entry), None):
            annotations.append({key: value for key, value in entry.items() if key != "category_id"})
    one = {**ground_truth, "annotations": annotations, "categories": [OBJECT]}
    return one, [{**result, "category_id": OBJECT["id"]} for result in results]


def _place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry["image_id"], *entry["bbox"]
