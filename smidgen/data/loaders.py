"""Batches for training and for evaluation; a training sample depends on (seed, epoch, position) and on nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from smidgen.data.augmentation import Augmentation
from smidgen.data.augmenter import Augmenter
from smidgen.data.batch_order import BatchOrder, SampleKey, batch_generator, sample_generator
from smidgen.data.dataset import DetectionDataset
from smidgen.data.geometry import resize
from smidgen.data.image_files import UnreadableImageError
from smidgen.data.sample import Sample, load_sample
from smidgen.data.tiled_dataset import TiledDataset
from smidgen.structures import ImageBatch, Preprocessing, Target

logger = logging.getLogger(__name__)

Batch = tuple[ImageBatch, tuple[Target, ...]]

BATCHES_AHEAD = 4  # of each worker: large and small images take turns, and a large one must not be waited for


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker hands over. batch: None where no image could be read. problems: a sentence per unreadable file."""

    batch: Batch | None
    problems: tuple[str, ...] = ()
    vanished: int = 0

    def pin_memory(self) -> Loaded:
        """The same with the batch in pinned memory, from which a GPU takes it without being waited for. torch's loader
        calls this in a thread of its own.
        """
        if self.batch is None:
            return self
        images, targets = self.batch
        return replace(self, batch=(images.pin_memory(), tuple(target.pin_memory() for target in targets)))


@dataclass(frozen=True, slots=True)
class LoadedSample:
    """One image's part of a batch; nothing where it could not be read."""

    sample: Sample | None
    target: Target | None
    problems: tuple[str, ...] = ()


class EpochImages(Protocol):
    """What the samples of one epoch are made of: images, or tiles of images."""

    def __len__(self) -> int: ...

    @property
    def sources(self) -> npt.NDArray[np.int64] | None:
        """As in `BatchOrder`."""

    def load(self, row: int) -> Sample:
        """One of them as it is on disk. Raises UnreadableImageError."""


@dataclass(frozen=True, slots=True)
class WholeImages:
    """The images of a data set, the same in every epoch."""

    dataset: DetectionDataset

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def sources(self) -> None:
        """Each is an image."""

    def load(self, row: int) -> Sample:
        """The image and its objects. Raises UnreadableImageError."""
        return load_sample(self.dataset.records[row])


def training_loader(
    dataset: DetectionDataset | TiledDataset,
    *,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> TrainingLoader:
    """Endless in epochs: `set_epoch(n)`, then iterate. batch_size: images per rank. workers: processes that make
    batches ahead. pin_memory: for a GPU.

    The last incomplete batch is left out, unless the whole set is smaller than one. Unreadable images are reported once
    and replaced by the next readable one. Tiles are not grouped by shape, since nearly all of them are alike.
    """
    _require_batches(dataset, batch_size, workers)
    samples = partial(TrainingSamples, preprocessing=preprocessing, augmentation=augmentation, seed=seed)
    order = BatchOrder(len(dataset), batch_size, seed, rank=rank, world_size=world_size)
    if isinstance(dataset, TiledDataset):
        order = replace(order, mixed=dataset.config.mixed_images)
        return TrainingLoader(order, lambda n: samples(dataset.epoch(n, seed)), preprocessing.pad_multiple, workers)
    if augmentation.group_by_aspect:
        order = replace(order, aspect_ratios=_aspect_ratios(dataset))
    whole = samples(WholeImages(dataset))
    return TrainingLoader(order, lambda _: whole, preprocessing.pad_multiple, workers)


def evaluation_loader(
    dataset: DetectionDataset, *, preprocessing: Preprocessing, batch_size: int, workers: int = 0
) -> EvaluationLoader:
    """Every readable image once, in order, resized by the model's rule; unreadable ones are reported and left out."""
    _require_batches(dataset, batch_size, workers)
    return EvaluationLoader(EvaluationSamples(dataset, preprocessing), batch_size, preprocessing.pad_multiple, workers)


@dataclass(slots=True)
class TrainingLoader:
    """Iterable of (images, targets) with uint8 pixels. samples: by epoch. vanished_boxes: boxes that rounding left
    without area so far.
    """

    order: BatchOrder
    samples: Callable[[int], TrainingSamples]
    pad_multiple: int
    workers: int
    pin_memory: bool = False
    current_epoch: int = 0
    vanished_boxes: int = 0
    reported: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration gives."""
        self.current_epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """The batches of the current epoch from `start_step` on, exactly as an unbroken epoch gives them."""
        samples = self.samples(self.current_epoch)
        order = replace(self.order, sources=samples.images.sources)
        batches = order.epoch(self.current_epoch)[start_step:]
        for loaded in _load(samples, batches, self.pad_multiple, self.workers, self.pin_memory):
            self.vanished_boxes += loaded.vanished
            _report(loaded.problems, self.reported)
            if loaded.batch is not None:
                yield loaded.batch


@dataclass(slots=True)
class EvaluationLoader:
    """Iterable of (images, targets) with uint8 pixels."""

    samples: EvaluationSamples
    batch_size: int
    pad_multiple: int
    workers: int
    reported: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        """Batches, were every image readable."""
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        indices = list(range(len(self.samples)))
        batches = [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
        for loaded in _load(self.samples, batches, self.pad_multiple, self.workers):
            _report(loaded.problems, self.reported)
            if loaded.batch is not None:
                yield loaded.batch


@dataclass(frozen=True, slots=True)
class TrainingSamples:
    """Augmented samples of an epoch, by key."""

    images: EpochImages
    preprocessing: Preprocessing
    augmentation: Augmentation
    seed: int

    def __getitem__(self, key: SampleKey) -> LoadedSample:
        """The sample of this key; where its image cannot be read, of the next readable image."""
        problems: list[str] = []
        load = partial(self._load_next_readable, problems=problems)
        augmenter = Augmenter(self.augmentation, self.preprocessing, load, len(self.images))
        sample_rng, batch_rng = sample_generator(self.seed, key), batch_generator(self.seed, key)
        shape_rng = batch_rng if self.augmentation.shapes_per == "batch" else sample_rng
        sample = augmenter(key.index, key.epoch, shape_rng, sample_rng)
        return LoadedSample(sample, sample.target(), tuple(problems))

    def _load_next_readable(self, index: int, problems: list[str]) -> Sample:
        for offset in range(len(self.images)):
            try:
                return self.images.load((index + offset) % len(self.images))
            except UnreadableImageError as error:
                problems.append(str(error))
        raise ValueError(f"none of the {len(self.images)} images can be read; the first problem: {problems[0]}")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class EvaluationSamples:
    """Samples as they are, resized by the model's rule."""

    dataset: DetectionDataset
    preprocessing: Preprocessing

    def __getitem__(self, index: int) -> LoadedSample:
        """The sample of this image, or a problem."""
        record = self.dataset.records[index]
        try:
            sample = load_sample(record)
        except UnreadableImageError as error:
            return LoadedSample(None, None, (str(error),))
        sample = resize(sample, self.preprocessing.resized_hw(*sample.size_hw))
        return LoadedSample(sample, sample.target())

    def __len__(self) -> int:
        return len(self.dataset)


def _load(
    samples: TrainingSamples | EvaluationSamples,
    batches: Sequence[Sequence[object]],
    pad_multiple: int,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Loaded]:
    """Batches in order, made by this process or by workers."""
    collate = partial(_collate, pad_multiple=pad_multiple)
    # A generator of its own: a loader's start must not move torch's global stream, or resuming would not be exact.
    generator = torch.Generator()
    # torch types data sets and samplers as classes to inherit; it needs only __getitem__ and an iterable.
    loader: DataLoader[Loaded] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        pin_memory=pin_memory,
        generator=generator,
    )
    return iter(loader)


def _collate(parts: Sequence[LoadedSample], pad_multiple: int) -> Loaded:
    problems = tuple(problem for part in parts for problem in part.problems)
    samples = [part.sample for part in parts if part.sample is not None]
    targets = tuple(part.target for part in parts if part.target is not None)
    if not samples:
        return Loaded(None, problems)
    images = ImageBatch.collate([sample.image for sample in samples], pad_multiple)
    return Loaded((images, targets), problems, sum(sample.vanished for sample in samples))


def _report(problems: Sequence[str], reported: set[str]) -> None:
    for problem in problems:
        if problem not in reported:
            reported.add(problem)
            logger.warning("%s; it is left out", problem)


def _aspect_ratios(dataset: DetectionDataset) -> np.ndarray:
    return np.array([record.size_hw[1] / record.size_hw[0] for record in dataset.records])


def _require_batches(dataset: DetectionDataset | TiledDataset, batch_size: int, workers: int) -> None:
    if len(dataset) == 0:
        raise ValueError("expected a dataset with at least one image, got an empty one")
    if batch_size < 1 or workers < 0:
        raise ValueError(f"expected batch_size >= 1 and workers >= 0, got {batch_size} and {workers}")
