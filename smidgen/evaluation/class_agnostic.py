"""Found or not, whatever it was called: ground truth and detections with all classes made one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.evaluation.annotations import about_no_class, category_names, place_of, read_ground_truth

OBJECT = {"id": 1, "name": "object"}


def without_classes(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO ground truth and results in which every category is the one category "object".

    A crowd of one class becomes a crowd of objects; a crowd that stands there for every class, or for none, stays a
    region about no class, told once. Detections of one object under several classes stay, and all but one are wrong.
    """
    read_ground_truth(ground_truth)  # says what is wrong with it
    entries = ground_truth["annotations"]
    annotations: list[dict[str, Any]] = []
    told: set[tuple[Any, ...]] = set()
    for entry, region in zip(entries, about_no_class(entries, category_names(ground_truth)), strict=True):
        if not region:
            annotations.append({**entry, "category_id": OBJECT["id"]})
        elif place_of(entry) not in told:
            told.add(place_of(entry))
            annotations.append({key: value for key, value in entry.items() if key != "category_id"})
    one = {**ground_truth, "annotations": annotations, "categories": [OBJECT]}
    return one, [{**result, "category_id": OBJECT["id"]} for result in results]
