"""How objects are shared out among the classes, and in how many images each class is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smidgen.data.statistics.object_table import ObjectTable


@dataclass(frozen=True, slots=True)
class ClassShare:
    """images: that show the class. share: of all objects. median_px: size on disk or at the input, None = no object."""

    name: str
    objects: int
    images: int
    share: float
    median_px: float | None


@dataclass(frozen=True, slots=True)
class ClassBalance:
    """classes: in the dataset's order. effective: the number of equally frequent classes with the same entropy."""

    classes: tuple[ClassShare, ...]
    effective: float


def class_balance(table: ObjectTable) -> ClassBalance:
    """Sizes are those of the table's frame."""
    number, sides_px = len(table.class_names), table.sides_px
    objects = np.bincount(table.labels, minlength=number)
    seen = np.unique(table.labels * table.num_images + table.image) // max(table.num_images, 1)
    images = np.bincount(seen, minlength=number)
    shares = objects / max(len(table), 1)
    medians = [float(np.median(sides_px[table.labels == label])) if objects[label] else None for label in range(number)]
    rows = zip(table.class_names, objects.tolist(), images.tolist(), shares.tolist(), medians, strict=True)
    present = shares[shares > 0]
    return ClassBalance(tuple(ClassShare(*row) for row in rows), float(np.exp(-(present * np.log(present)).sum())))
