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
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from smidgen.evaluation import entry_columns


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

    Raises ValueError where parts are missing or no numbers, or annotations speak of images or categories that are not
    listed.
    """
    image_ids, categories = image_identifiers(document), category_names(document)
    category_ids = tuple(sorted(categories))
    annotations, region = _with_regions(document["annotations"], category_ids)
    boxes = entry_columns.boxes(annotations, "annotation")
    truth = GroundTruth(
        image_ids=image_ids,
        category_ids=category_ids,
        names=tuple(categories[index] for index in category_ids),
        image=entry_columns.indices(annotations, "image_id", image_ids, "annotation"),
        category=entry_columns.indices(annotations, "category_id", category_ids, "annotation"),
        boxes_xywh=boxes,
        area=_areas(annotations, boxes),
        crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], dtype=np.bool_),
        region=region,
        sizes_wh=_sizes(document["images"], image_ids),
    )
    _require_finite(truth, annotations)
    return truth


def read_results(results: Sequence[Mapping[str, Any]], truth: GroundTruth) -> Results:
    """Columns of COCO results. Detections with a NaN or infinite box or score are dropped and counted.

    Raises ValueError where a result lacks a key, has something else than numbers, or speaks of an image or category
    that the ground truth does not list.
    """
    image = entry_columns.indices(results, "image_id", truth.image_ids, "prediction")
    category = entry_columns.indices(results, "category_id", truth.category_ids, "prediction")
    boxes, scores = entry_columns.boxes(results, "prediction"), entry_columns.numbers(results, "score", "prediction")
    every = Results(image=image, category=category, boxes_xywh=boxes, scores=scores, non_finite=0)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    if finite.all():
        return every
    return replace(every.kept(finite), non_finite=int(np.count_nonzero(~finite)))


def image_identifiers(document: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Ids of the images, in the order of the official tools. ValueError where the document is no COCO ground truth."""
    parts = ("images", "annotations", "categories")
    missing = [part for part in parts if not isinstance(document.get(part), list | tuple)]
    if missing:
        raise ValueError(f"expected COCO ground truth with lists of {', '.join(parts)}; {', '.join(missing)} not found")
    return tuple(entry_columns.sorted_identifiers(set(entry_columns.identifiers(document["images"], "id", "image"))))


def category_names(document: Mapping[str, Any]) -> dict[int, str]:
    """Name by id; the id where a category has none."""
    ids = entry_columns.column(document["categories"], "id", "category")
    wrong = [value for value in ids if not isinstance(value, int)]
    if wrong:
        raise ValueError(f"expected every category's id to be a whole number, got {wrong[0]!r}")
    return {index: str(entry.get("name", index)) for index, entry in zip(ids, document["categories"], strict=True)}


def about_no_class(annotations: Sequence[Mapping[str, Any]], category_ids: Collection[int]) -> list[bool]:
    """Which annotations are regions to be ignored about no class in particular (see above)."""
    known, places = set(category_ids), defaultdict[Any, set[Any]](set)
    for entry in annotations:
        if entry.get("iscrowd", 0):
            places[place_of(entry)].add(entry.get("category_id"))
    everywhere = {place for place, classes in places.items() if len(known) > 1 and classes >= known}
    return [
        bool(entry.get("iscrowd", 0) or entry.get("ignore", 0))
        and (entry.get("category_id") not in known or (bool(entry.get("iscrowd", 0)) and place_of(entry) in everywhere))
        for entry in annotations
    ]


def place_of(annotation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Image and box, which copies of one region share."""
    return annotation["image_id"], *annotation["bbox"]


def _with_regions(
    annotations: Sequence[Mapping[str, Any]], category_ids: Sequence[int]
) -> tuple[list[Mapping[str, Any]], NDArray[np.bool_]]:
    """The annotations in their order, those of no listed category as crowds of every one at the end; and which are
    regions."""
    entry_columns.identifiers(annotations, "image_id", "annotation")
    entry_columns.boxes(annotations, "annotation")
    known = set(category_ids)
    marked = list(zip(annotations, about_no_class(annotations, known), strict=True))
    of_a_category = [pair for pair in marked if not pair[1] or pair[0].get("category_id") in known]
    copies = [
        {**entry, "category_id": category, "iscrowd": 1}
        for entry, region in marked
        if region and entry.get("category_id") not in known
        for category in category_ids
    ]
    region = [is_region for _, is_region in of_a_category] + [True] * len(copies)
    return [*(entry for entry, _ in of_a_category), *copies], np.array(region, dtype=np.bool_)


def _areas(annotations: Sequence[Mapping[str, Any]], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    given = entry_columns.numbers([{"area": entry.get("area")} for entry in annotations], "area", "annotation")
    return np.where(np.isnan(given), boxes[:, 2] * boxes[:, 3], given)


def _sizes(images: Sequence[Mapping[str, Any]], image_ids: Sequence[int | str]) -> NDArray[np.float64]:
    sizes = {entry["id"]: entry for entry in images}
    columns = (
        entry_columns.numbers([{key: sizes[index].get(key)} for index in image_ids], key, "image")
        for key in ("width", "height")
    )
    given = np.stack(list(columns), axis=1)
    return np.where(given > 0, given, np.inf)


def _require_finite(truth: GroundTruth, annotations: Sequence[Mapping[str, Any]]) -> None:
    finite = np.isfinite(truth.boxes_xywh).all(axis=1) & np.isfinite(truth.area)
    if not finite.all():
        first = annotations[int(np.argmin(finite))]
        raise ValueError(
            f"{np.count_nonzero(~finite)} annotations have a bbox or area that is not finite, the first of them "
            f"{dict(first)}; `smidgen check` finds such, and --fix writes a copy without them"
        )
