"""What training needs from what it is handed: any detector, dataset and loader of this form can be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from smidgen.structures import Classes, ImageBatch, ObjectSizes, Target

Batch = tuple[ImageBatch, tuple[Target, ...]]
Evaluate = Callable[[nn.Module], Mapping[str, float]]


class LabeledImage(Protocol):
    """One image's record; only its labels are read here."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index of each object."""


class TrainingImages(Protocol):
    """A dataset as `smidgen.data.open_dataset` gives it."""

    @property
    def classes(self) -> Classes:
        """Class names and ids."""

    @property
    def records(self) -> Sequence[LabeledImage]:
        """One per image."""


class TrainingBatches(Protocol):
    """A loader as `smidgen.data.training_loader` gives it: batches depend on the seed, the epoch and the place only."""

    def __len__(self) -> int:
        """Batches per epoch and process."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """The epoch's batches from this one on."""


class Detector(Protocol):
    """What `smidgen.create_model` sets on every model."""

    name: str
    config: Any
    classes: Classes
    object_sizes: ObjectSizes | None
