"""Labeled images in folders named like their classes, as batches: train/<class>/*.jpg and val/<class>/*.jpg.

A training image depends on (seed, epoch, position) only, so that a resumed run sees what an unbroken one sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from smidgen.data.batch_order import BatchOrder, SampleKey, sample_generator
from smidgen.data.image_files import IMAGE_SUFFIXES, UnreadableImageError, read_image
from smidgen.training.classification_config import ClassificationAugmentation

Transform = Callable[[Tensor], Tensor]
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Say = Callable[[str], None]

# Judged is the middle 7/8 of the image, as since AlexNet.
_CENTER_SHARE = 224 / 256


@dataclass(frozen=True)
class LabeledFiles:
    """Files with the index of their class. root: for messages."""

    root: Path
    files: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class LabeledBatch:
    """Normalized square images with class indices. problems: a sentence per file that could not be read."""

    images: Float[Tensor, "B 3 S S"]
    labels: Int[Tensor, " B"]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def open_image_folder(data: Path) -> tuple[LabeledFiles, LabeledFiles]:
    """Training and validation images; both with the class indices of the training folder.

    Errors: ValueError where the layout is another, a split is empty, there is one class only, or only the validation
    has a class.
    """
    training = _scanned(data / "train")
    if len(training.class_names) < 2:
        raise ValueError(
            f"expected images of at least two classes in {training.root}/<class>/, got only "
            f"{training.class_names[0]}; with one class there is nothing to learn"
        )
    found = _scanned(data / "val")
    unknown = sorted(set(found.class_names) - set(training.class_names))
    if unknown:
        raise ValueError(f"expected the classes of {training.root} in {found.root}, got others: {', '.join(unknown)}")
    index = {name: place for place, name in enumerate(training.class_names)}
    files = tuple((file, index[found.class_names[label]]) for file, label in found.files)
    return training, LabeledFiles(found.root, files, training.class_names)


def _scanned(root: Path) -> LabeledFiles:
    try:
        folder = ImageFolder(root, is_valid_file=lambda file: Path(file).suffix.lower() in IMAGE_SUFFIXES)
    except FileNotFoundError as error:
        raise ValueError(
            f"expected images in {root}/<class>/, as in train/cat/1.jpg and val/cat/2.jpg: {error}"
        ) from error
    return LabeledFiles(root, tuple(folder.samples), tuple(folder.classes))


@dataclass(slots=True)
class TrainingImageBatches:
    """Augmented batches of one process; `reported` remembers which broken files were spoken of."""

    files: LabeledFiles
    augmentation: ClassificationAugmentation
    order: BatchOrder
    workers: int
    say: Say
    reported: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        """Batches per epoch: the last incomplete one is left out unless it is the only one."""
        return len(self.order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[LabeledBatch]:
        """The epoch's batches from `start` on. The next readable image takes a broken one's place."""
        samples = AugmentedFiles(self.files, training_transform(self.augmentation), self.order.seed)
        for batch in _load(samples, self.order.epoch(epoch)[start:], self.workers):
            _report(batch.problems, self.reported, self.say)
            yield batch


@dataclass(slots=True)
class ValidationImageBatches:
    """Every readable image of this process's share once; `indices` of `files`."""

    files: LabeledFiles
    augmentation: ClassificationAugmentation
    indices: Sequence[int]
    batch_size: int
    workers: int
    say: Say
    reported: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[LabeledBatch]:
        samples = CenteredFiles(self.files, validation_transform(self.augmentation))
        batches = [
            self.indices[start : start + self.batch_size] for start in range(0, len(self.indices), self.batch_size)
        ]
        for batch in _load(samples, batches, self.workers):
            _report(batch.problems, self.reported, self.say)
            if len(batch):
                yield batch


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """One part of a batch; image: None = its file could not be read."""

    image: Tensor | None
    label: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AugmentedFiles:
    """Training images by key."""

    files: LabeledFiles
    transform: Transform
    seed: int

    def __getitem__(self, key: SampleKey) -> LabeledImage:
        """The image of this key, or the next readable one. Errors: ValueError where there is none."""
        problems: list[str] = []
        for offset in range(len(self.files)):
            file, label = self.files.files[(key.index + offset) % len(self.files)]
            try:
                return LabeledImage(self._augmented(read_image(file), key), label, tuple(problems))
            except UnreadableImageError as error:
                problems.append(str(error))
        raise ValueError(f"none of the {len(self.files)} images in {self.files.root} can be read: {problems[0]}")

    def _augmented(self, pixels: Tensor, key: SampleKey) -> Tensor:
        """torchvision draws from torch's global stream: it is set for this image and put back."""
        with torch.random.fork_rng(devices=[]):
            # Of the CPU only: torch.manual_seed would also restart the streams of GPUs.
            torch.default_generator.manual_seed(int(sample_generator(self.seed, key).integers(2**63)))
            return self.transform(pixels)


@dataclass(frozen=True, slots=True)
class CenteredFiles:
    """Validation images by index."""

    files: LabeledFiles
    transform: Transform

    def __getitem__(self, index: int) -> LabeledImage:
        """The image's middle, or a problem."""
        file, label = self.files.files[index]
        try:
            return LabeledImage(self.transform(read_image(file)), label)
        except UnreadableImageError as error:
            return LabeledImage(None, label, (str(error),))


def training_transform(augmentation: ClassificationAugmentation) -> Transform:
    """Uint8 pixels of any size to a normalized square, by chance."""
    size, bicubic = augmentation.image_size, InterpolationMode.BICUBIC
    transform: Transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=augmentation.crop_area, interpolation=bicubic, antialias=True),
            v2.RandomHorizontalFlip(augmentation.flip),
            *_policy(augmentation),
            *_normalization(augmentation),
            v2.RandomErasing(augmentation.erasing, scale=(0.02, 1 / 3), value="random"),
        ]
    )
    return transform


def validation_transform(augmentation: ClassificationAugmentation) -> Transform:
    """Uint8 pixels of any size to the normalized middle square."""
    size = augmentation.image_size
    transform: Transform = v2.Compose(
        [
            v2.Resize(round(size / _CENTER_SHARE), interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(size),
            *_normalization(augmentation),
        ]
    )
    return transform


def mixing(augmentation: ClassificationAugmentation, num_classes: int) -> Mix | None:
    """`(images, labels) -> (images, shares of classes)` by mixup or cutmix, as the lot chooses; None = neither."""
    wanted = [(v2.MixUp, augmentation.mixup), (v2.CutMix, augmentation.cutmix)]
    made = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in wanted if alpha]
    return v2.RandomChoice(made) if made else None


def _policy(augmentation: ClassificationAugmentation) -> list[Any]:
    """Changes of color and shape; color jitter is off beside a policy, which changes colors itself."""
    gray = [round(255 * mean) for mean in augmentation.mean]
    if augmentation.policy == "rand_augment":
        return [v2.RandAugment(num_ops=2, magnitude=9, fill=gray)]
    if augmentation.policy == "auto_augment":
        return [v2.AutoAugment(fill=gray)]
    strength = augmentation.color_jitter
    return [v2.ColorJitter(strength, strength, strength)] if strength else []


def _normalization(augmentation: ClassificationAugmentation) -> list[Any]:
    return [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(augmentation.mean), list(augmentation.std)),
    ]


def _load(
    samples: AugmentedFiles | CenteredFiles, batches: Sequence[Sequence[object]], workers: int
) -> Iterator[LabeledBatch]:
    # A generator of its own: a loader's start must not move torch's global stream, or resuming would not be exact.
    # torch types data sets and samplers as classes to inherit; it needs only __getitem__ and an iterable.
    loader: DataLoader[LabeledBatch] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=_collate,
        num_workers=workers,
        generator=torch.Generator(),
    )
    return iter(loader)


def _collate(parts: Sequence[LabeledImage]) -> LabeledBatch:
    problems = tuple(problem for part in parts for problem in part.problems)
    readable = [(part.image, part.label) for part in parts if part.image is not None]
    images = torch.stack([image for image, _ in readable]) if readable else torch.zeros(0, 3, 1, 1)
    return LabeledBatch(images, torch.tensor([label for _, label in readable], dtype=torch.long), problems)


def _report(problems: Sequence[str], reported: set[str], say: Say) -> None:
    for problem in problems:
        if problem not in reported:
            reported.add(problem)
            say(f"Warning: {problem}; it is left out")
