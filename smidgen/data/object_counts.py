"""How many objects images hold: decides whether a detector's query budget suffices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smidgen.data.dataset import DetectionDataset


@dataclass(frozen=True, slots=True)
class ObjectsPerImage:
    """counts: objects of each image, in the dataset's order, without ignore regions."""

    counts: npt.NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Objects per image on average."""
        return float(self.counts.mean())

    @property
    def maximum(self) -> int:
        """Objects in the fullest image."""
        return int(self.counts.max())

    def quantile(self, share: float) -> float:
        """The count that this share of the images does not pass."""
        return float(np.quantile(self.counts, share))

    def images_above(self, budget: int) -> int:
        """Number of images with more objects than `budget`."""
        return int((self.counts > budget).sum())

    def recall_limit(self, budget: int) -> float:
        """The share of all objects that `budget` predictions per image can find at best; 1 where there are none."""
        total = int(self.counts.sum())
        return float(np.minimum(self.counts, budget).sum() / total) if total else 1.0


def objects_per_image(dataset: DetectionDataset) -> ObjectsPerImage:
    """Counts over the whole split."""
    return ObjectsPerImage(np.array([len(record) for record in dataset.records], dtype=np.int64))
