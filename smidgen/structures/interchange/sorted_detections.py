"""Detections made of another tool's rows: checked, best first, with the classes that the reader names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from smidgen.structures.classes import Classes
from smidgen.structures.detections import Detections


def sorted_detections(
    boxes_xyxy: Sequence[Sequence[float]],
    scores: Sequence[float],
    labels: Sequence[int],
    classes: Classes,
    image_hw: tuple[int, int],
    *,
    image_id: int | str = 0,
    file: str = "",
) -> Detections:
    """Rows in any order as Detections; equal scores keep their order. boxes_xyxy: pixels of the original image."""
    scores_sorted, order = torch.tensor(scores, dtype=torch.float32).sort(descending=True, stable=True)
    return Detections(
        boxes_xyxy=torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4)[order],
        scores=scores_sorted,
        labels=torch.tensor(labels, dtype=torch.long)[order],
        image_hw=image_hw,
        image_id=image_id,
        file=file,
        class_names=classes.names,
        category_ids=classes.ids,
    )


def column(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """What every row says under `key`. Raises ValueError that names the first row without it."""
    for number, row in enumerate(rows):
        if key not in row:
            raise ValueError(
                f"expected {key!r} in every detection, got {', '.join(row) or 'nothing'} in number {number}"
            )
    return [row[key] for row in rows]


def labels_of(category_ids: Iterable[int], classes: Classes) -> list[int]:
    """The class index of each of the dataset's ids. Raises ValueError for one that is not among the classes."""
    index = {category: label for label, category in enumerate(classes.ids)}
    ids = [int(category) for category in category_ids]
    unknown = sorted(set(ids) - index.keys())
    if unknown:
        raise ValueError(f"expected category ids out of {list(classes.ids)}, got {unknown}; pass the classes they mean")
    return [index[category] for category in ids]


def size_of_image(given: tuple[int, int] | None, found: Any) -> tuple[int, int]:
    """(height, width): what the caller says, else what the other tool's value says. Raises ValueError for neither."""
    chosen = given or found
    if chosen is None:
        raise ValueError("expected the size of the image, which is not in the data; pass image_hw=(height, width)")
    height, width = chosen
    return int(height), int(width)
