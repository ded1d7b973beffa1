"""Ground truth and predictions as columns with contiguous indices, checked once, whatever ids the files use.

Two things are to be ignored, and a COCO file says them so:
- a crowd is an annotation with iscrowd = 1 and a category: what of that category lies in it is not judged (VisDrone: a
  row of a category 1 to 10 with score 0);
- an ignored region is about no category: iscrowd = 1 or ignore = 1 with a category_id that is not among the categories,
  or with none (VisDrone: a row of category 0). A crowd that stands there once for every category of the file, of which
  there are at least two, is one ignored region as well: that is how pycocotools must be told.
An ignored region is read as one crowd of every category. Beside a category of the file, `ignore` says nothing, as in
pycocotools. What a protocol makes of crowds and regions is its affair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """Objects of a data set, in the file's order.

    image, category: indices into image_ids and category_ids, which are sorted as the official tools sort them.
    boxes_xywh: pixels of the original image. area: px^2, what size bins look at. crowd: to be ignored for its category.
    region: of these, the ones that stand for all categories. sizes_wh: of the images, infinite where it is not said.
    """

    image_ids: tuple[int | str, ...]
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    image: Int[NDArray[np.int64], " M"]
    category: Int[NDArray[np.int64], " M"]
    boxes_xywh: Float[NDArray[np.float64], "M 4"]
    area: Float[NDArray[np.float64], " M"]
    crowd: Bool[NDArray[np.bool_], " M"]
    region: Bool[NDArray[np.bool_], " M"]
    sizes_wh: Float[NDArray[np.float64], "I 2"]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, with the id where a name is used twice."""
        return tuple(
            name if self.names.count(name) == 1 else f"{name} ({index})"
            for name, index in zip(self.names, self.category_ids, strict=True)
        )

    def wanted(self, bounds: tuple[float, float]) -> Bool[NDArray[np.bool_], " M"]:
        """Which are objects to be found (no crowds) of an area within these bounds, both inclusive."""
        return ~self.crowd & (self.area >= bounds[0]) & (self.area <= bounds[1])

    def objects_in(self, bounds: tuple[float, float]) -> int:
        """How many of them there are."""
        return int(np.count_nonzero(self.wanted(bounds)))

    def counted(self, chosen: Bool[NDArray[np.bool_], " M"]) -> Int[NDArray[np.int64], "I K"]:
        """How many of the chosen ones each image has of each class."""
        counts = np.zeros((len(self.image_ids), len(self.category_ids)), np.int64)
        np.add.at(counts, (self.image[chosen], self.category[chosen]), 1)
        return counts

    @property
    def num_ignored(self) -> int:
        """Crowds, and regions once each."""
        return int(np.count_nonzero(self.crowd & (~self.region | (self.category == 0))))

    def kept(self, keep: Bool[NDArray[np.bool_], " M"]) -> GroundTruth:
        """Some of the objects; images and classes stay."""
        columns = ("image", "category", "boxes_xywh", "area", "crowd", "region")
        return replace(self, **{name: getattr(self, name)[keep] for name in columns})


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Detections in the file's order. image, category: indices into the ground truth's ids. non_finite: dropped."""

    image: Int[NDArray[np.int64], " D"]
    category: Int[NDArray[np.int64], " D"]
    boxes_xywh: Float[NDArray[np.float64], "D 4"]
    scores: Float[NDArray[np.float64], " D"]
    non_finite: int

    def kept(self, keep: Bool[NDArray[np.bool_], " D"]) -> Results:
        """Some of the detections, in the same order."""
        return self.taken(np.flatnonzero(keep))

    def taken(self, rows: Int[NDArray[np.int64], " N"]) -> Results:
        """These rows in this order."""
        columns = ("image", "category", "boxes_xywh", "scores")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


def read_ground_truth(document: Mapping[str, Any]) -> GroundTruth:
    """Columns of a COCO document. A missing `area` is width x height.

    Raises ValueError where parts are missing, or annotations speak of images or categories that are not listed.
    """
    missing = [part for part in ("images", "annotations", "categories") if part not in document]
    if missing:
        raise ValueError(f"expected COCO ground truth with images, annotations and categories, {missing} not found")
    image_ids = tuple(sorted({entry["id"] for entry in document["images"]}, key=_id_order))
    categories = {int(entry["id"]): str(entry.get("name", entry["id"])) for entry in document["categories"]}
    category_ids = tuple(sorted(categories))
    annotations, region = _with_regions(document["annotations"], category_ids)
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
        region=region,
        sizes_wh=_sizes(document["images"], image_ids),
    )


def read_results(results: Sequence[Mapping[str, Any]], truth: GroundTruth) -> Results:
    """Columns of COCO results. Detections with a NaN or infinite box or score are dropped and counted.

    Raises ValueError where a result lacks a key, or speaks of an image or category that the ground truth does not list.
    """
    image = _indices(results, "image_id", truth.image_ids, "predictions")
    category = _indices(results, "category_id", truth.category_ids, "predictions")
    boxes = _boxes(results, "prediction")
    scores = np.array(_values(results, "score", "prediction"), dtype=np.float64)
    keep = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return Results(
        image=image[keep],
        category=category[keep],
        boxes_xywh=boxes[keep],
        scores=scores[keep],
        non_finite=int(np.count_nonzero(~keep)),
    )


def _with_regions(
    annotations: Sequence[Mapping[str, Any]], category_ids: Sequence[int]
) -> tuple[list[Mapping[str, Any]], NDArray[np.bool_]]:
    """The annotations in their order, those about no category as crowds of every one at the end; which are regions."""
    known, places = set(category_ids), defaultdict[Any, set[int]](set)
    of_a_category = [entry for entry in annotations if not _about_none(entry, known)]
    for entry in of_a_category:
        if entry.get("iscrowd", 0):
            places[_place(entry)].add(_value(entry, "category_id", "annotation"))
    everywhere = {place for place, categories in places.items() if len(known) > 1 and categories == known}
    region = [bool(entry.get("iscrowd", 0)) and _place(entry) in everywhere for entry in of_a_category]
    copies = [
        {**entry, "category_id": category, "iscrowd": 1}
        for entry in annotations
        if _about_none(entry, known)
        for category in category_ids
    ]
    return [*of_a_category, *copies], np.array(region + [True] * len(copies), dtype=np.bool_)


def _about_none(entry: Mapping[str, Any], known: Collection[int]) -> bool:
    return bool(entry.get("iscrowd", 0) or entry.get("ignore", 0)) and entry.get("category_id") not in known


def _place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry.get("image_id"), *_value(entry, "bbox", "annotation")


def _sizes(images: Sequence[Mapping[str, Any]], image_ids: Sequence[int | str]) -> NDArray[np.float64]:
    sizes = {entry["id"]: (entry.get("width") or np.inf, entry.get("height") or np.inf) for entry in images}
    return np.array([sizes[index] for index in image_ids], dtype=np.float64).reshape(-1, 2)


def _id_order(value: int | str) -> tuple[bool, int | str]:
    return isinstance(value, str), value


def _value(entry: Mapping[str, Any], key: str, what: str) -> Any:
    try:
        return entry[key]
    except (KeyError, TypeError):
        raise ValueError(f"expected every {what} to have {key!r}, got {entry!r}") from None


def _values(entries: Sequence[Mapping[str, Any]], key: str, what: str) -> list[Any]:
    """As `_value` of each, without a call for each: files hold millions of detections."""
    try:
        return [entry[key] for entry in entries]
    except (KeyError, TypeError):
        return [_value(entry, key, what) for entry in entries]


def _boxes(entries: Sequence[Mapping[str, Any]], what: str) -> NDArray[np.float64]:
    boxes = _values(entries, "bbox", what)
    wrong = next((box for box in boxes if len(box) != 4), None)
    if wrong is not None:
        raise ValueError(f"expected every {what}'s bbox as [x, y, width, height], got {wrong!r}")
    return np.fromiter(chain.from_iterable(boxes), dtype=np.float64, count=4 * len(boxes)).reshape(-1, 4)


def _indices(
    entries: Sequence[Mapping[str, Any]], key: str, known: Sequence[int | str], what: str
) -> NDArray[np.int64]:
    index = {value: position for position, value in enumerate(known)}
    values = _values(entries, key, what.removesuffix("s"))
    unknown = set(values) - set(index)
    if unknown:
        some = ", ".join(repr(value) for value in sorted(unknown, key=_id_order)[:5])
        raise ValueError(
            f"{len(unknown)} {key} of the {what} not in the ground truth "
            f"({some}{', ...' if len(unknown) > 5 else ''}); "
            f"expected {key} such as {', '.join(repr(value) for value in known[:5])}: do both belong to the same split?"
        )
    return np.array([index[value] for value in values], dtype=np.int64)
