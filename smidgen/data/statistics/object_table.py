"""All objects of a split as columns: every statistic is then an operation on arrays, in either frame of pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from smidgen.data.dataset import DetectionDataset
from smidgen.structures import Preprocessing


@dataclass(frozen=True, slots=True)
class ObjectTable:
    """M objects of B images, in the dataset's order, without ignore regions.

    boxes_xyxy: pixels of an image of `sizes_hw`, the image on disk or the network input (`at_input`). image: index of
    the object's image, ascending. labels: class indices, names of `class_names`.
    """

    boxes_xyxy: Float[NDArray[np.float64], "M 4"]
    labels: Int[NDArray[np.int64], " M"]
    image: Int[NDArray[np.int64], " M"]
    sizes_hw: Int[NDArray[np.int64], "B 2"]
    class_names: tuple[str, ...]

    @staticmethod
    def of(dataset: DetectionDataset) -> ObjectTable:
        """Read from the records alone: no image is opened."""
        records = dataset.records
        return ObjectTable(
            np.concatenate([np.zeros((0, 4)), *(record.boxes_xyxy for record in records)]).astype(np.float64),
            np.concatenate([np.zeros(0, np.int64), *(record.labels for record in records)]),
            np.repeat(np.arange(len(records)), [len(record) for record in records]).astype(np.int64),
            np.array([record.size_hw for record in records], dtype=np.int64).reshape(-1, 2),
            dataset.classes.names,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_images(self) -> int:
        """Images, also those without objects."""
        return len(self.sizes_hw)

    @property
    def counts(self) -> Int[NDArray[np.int64], " B"]:
        """Objects of each image."""
        return np.bincount(self.image, minlength=self.num_images)

    @property
    def sizes_wh(self) -> Float[NDArray[np.float64], "M 2"]:
        """Width and height of every object in px."""
        return self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]

    @property
    def centers_xy(self) -> Float[NDArray[np.float64], "M 2"]:
        """Middle of every object in px."""
        return (self.boxes_xyxy[:, 2:] + self.boxes_xyxy[:, :2]) / 2

    @property
    def areas_px(self) -> Float[NDArray[np.float64], " M"]:
        """Width times height of every box in square px."""
        width, height = self.sizes_wh.T  # numpy's product of rows of two is ten times slower
        areas: NDArray[np.float64] = width * height
        return areas

    @property
    def sides_px(self) -> Float[NDArray[np.float64], " M"]:
        """Square root of every box's area in px: the size of an object."""
        sides: NDArray[np.float64] = np.sqrt(self.areas_px)
        return sides

    def only(self, chosen: Bool[NDArray[np.bool_], " M"]) -> ObjectTable:
        """Some of the objects, of the same images."""
        return replace(self, boxes_xyxy=self.boxes_xyxy[chosen], labels=self.labels[chosen], image=self.image[chosen])

    def at_input(self, preprocessing: Preprocessing) -> ObjectTable:
        """The same objects in pixels of the network input, as evaluation resizes them (no augmentation)."""
        different_hw, which = np.unique(self.sizes_hw, axis=0, return_inverse=True)
        resized = [preprocessing.resized_hw(int(height), int(width)) for height, width in different_hw]
        input_hw = np.array(resized, dtype=np.int64).reshape(-1, 2)[which.reshape(-1)]
        scale_xy = (input_hw / self.sizes_hw)[self.image, ::-1]
        return replace(self, boxes_xyxy=self.boxes_xyxy * np.tile(scale_xy, 2), sizes_hw=input_hw)


def row_numbers(rows: Int[NDArray[np.int64], "M D"]) -> Int[NDArray[np.int64], " M"]:
    """One number per row of numbers >= 0, equal exactly where rows are equal: sorted much faster than the rows."""
    numbers = np.zeros(len(rows), np.int64)
    for column in rows.T:
        numbers = numbers * (int(column.max(initial=0)) + 1) + column
    return numbers
