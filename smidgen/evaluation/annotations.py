"""Ground truth and predictions as columns with contiguous indices, checked once, whatever ids the files use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """Objects of a data set, in the file's order.

    image, category: indices into image_ids and category_ids, which are sorted as the official tools sort them.
    boxes_xywh: pixels of the original image. area: px^2, what size bins look at. crowd: regions to ignore.
    """

    image_ids: tuple[int | str, ...]
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    image: Int[NDArray[np.int64], " M"]
    category: Int[NDArray[np.int64], " M"]
    boxes_xywh: Float[NDArray[np.float64], "M 4"]
    area: Float[NDArray[np.float64], " M"]
    crowd: Bool[NDArray[np.bool_], " M"]

    def objects_in(self, bounds: tuple[float, float]) -> int:
        """How many objects (crowds excluded) have an area within these bounds, both inclusive."""
        return int(np.count_nonzero(~self.crowd & (self.area >= bounds[0]) & (self.area <= bounds[1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Detections in the file's order. image, category: indices into the ground truth's ids. non_finite: dropped."""

    image: Int[NDArray[np.int64], " D"]
    category: Int[NDArray[np.int64], " D"]
    boxes_xywh: Float[NDArray[np.float64], "D 4"]
    scores: Float[NDArray[np.float64], " D"]
    non_finite: int


def read_ground_truth(document: Mapping[str, Any]) -> GroundTruth:
    """Columns of a COCO document. A missing `area` is width x height; `ignore` counts for nothing, as in pycocotools.

    Raises ValueError where parts are missing, or annotations speak of images or categories that are not listed.
    """
    missing = [part for part in ("images", "annotations", "categories") if part not in document]
    if missing:
        raise ValueError(f"expected COCO ground truth with images, annotations and categories, {missing} not found")
    image_ids = tuple(sorted({entry["id"] for entry in document["images"]}, key=_id_order))
    categories = {int(entry["id"]): str(entry.get("name", entry["id"])) for entry in document["categories"]}
    category_ids = tuple(sorted(categories))
    annotations = document["annotations"]
    boxes = _boxes(annotations, "annotation")
    area = [entry.get("area", box[2] * box[3]) for entry, box in zip(annotations, boxes, strict=True)]
    return GroundTruth(
        image_ids=image_ids,
        category_ids=category_ids,
        names=tuple(categories[index] for index in category_ids),
        image=_indices(annotations, "image_id", image_ids, "annotations"),
        category=_indices(annotations, "category_id", category_ids, "annotations"),
        boxes_xywh=boxes,
        area=np.array(area, dtype=np.float64),
        crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], dtype=np.bool_),
    )


def read_results(results: Sequence[Mapping[str, Any]], truth: GroundTruth) -> Results:
    """Columns of COCO results. Detections with a NaN or infinite box or score are dropped and counted.

    Raises ValueError where a result lacks a key, or speaks of an image or category that the ground truth does not list.
    """
    image = _indices(results, "image_id", truth.image_ids, "predictions")
    category = _indices(results, "category_id", truth.category_ids, "predictions")
    boxes = _boxes(results, "prediction")
    scores = np.array([_value(entry, "score", "prediction") for entry in results], dtype=np.float64)
    keep = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return Results(
        image=image[keep],
        category=category[keep],
        boxes_xywh=boxes[keep],
        scores=scores[keep],
        non_finite=int(np.count_nonzero(~keep)),
    )


def _id_order(value: int | str) -> tuple[bool, int | str]:
    return isinstance(value, str), value


def _value(entry: Mapping[str, Any], key: str, what: str) -> Any:
    try:
        return entry[key]
    except (KeyError, TypeError):
        raise ValueError(f"expected every {what} to have {key!r}, got {entry!r}") from None


def _boxes(entries: Sequence[Mapping[str, Any]], what: str) -> NDArray[np.float64]:
    boxes = [_value(entry, "bbox", what) for entry in entries]
    wrong = next((box for box in boxes if len(box) != 4), None)
    if wrong is not None:
        raise ValueError(f"expected every {what}'s bbox as [x, y, width, height], got {wrong!r}")
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _indices(
    entries: Sequence[Mapping[str, Any]], key: str, known: Sequence[int | str], what: str
) -> NDArray[np.int64]:
    index = {value: position for position, value in enumerate(known)}
    values = [_value(entry, key, what.removesuffix("s")) for entry in entries]
    unknown = {value for value in values if value not in index}
    if unknown:
        some = ", ".join(repr(value) for value in sorted(unknown, key=_id_order)[:5])
        raise ValueError(
            f"{len(unknown)} {key} of the {what} not in the ground truth "
            f"({some}{', ...' if len(unknown) > 5 else ''}); "
            f"expected {key} such as {', '.join(repr(value) for value in known[:5])}: do both belong to the same split?"
        )
    return np.array([index[value] for value in values], dtype=np.int64)
