from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from image_folder_cases import COLORS, SMALL_IMAGES, make_image_folder
from torch import Tensor

from smidgen.data.batch_order import BatchOrder
from smidgen.training.image_folder import (
    LabeledBatch,
    LabeledFiles,
    TrainingImageBatches,
    ValidationImageBatches,
    mixing,
    open_image_folder,
    training_transform,
    validation_transform,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_image_folder(tmp_path / "data", training=3, validation=2)


def training_batches(files: LabeledFiles, said: list[str] | None = None, workers: int = 0) -> TrainingImageBatches:
    spoken = [] if said is None else said
    return TrainingImageBatches(files, SMALL_IMAGES, BatchOrder(len(files), 2, seed=1), workers, spoken.append)


def validation_batches(files: LabeledFiles, said: list[str]) -> ValidationImageBatches:
    return ValidationImageBatches(files, SMALL_IMAGES, range(len(files)), 2, 0, said.append)


def assert_same(first: list[LabeledBatch], second: list[LabeledBatch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_labels_are_the_places_of_the_training_folders(folder: Path) -> None:
    shutil.rmtree(folder / "val" / "blue")  # a class without validation images moves no other's index
    training, validation = open_image_folder(folder)
    assert training.class_names == tuple(sorted(COLORS))
    assert {Path(file).parent.name: label for file, label in training.files} == {"blue": 0, "green": 1, "red": 2}
    assert {Path(file).parent.name: label for file, label in validation.files} == {"green": 1, "red": 2}


def test_a_single_class_is_refused(folder: Path) -> None:
    """Its loss would be 0 and its top-1 accuracy 1 from the first step on."""
    for color in ("red", "green"):
        shutil.rmtree(folder / "train" / color)
    with pytest.raises(ValueError, match=r"at least two classes in .*train/<class>/, got only blue"):
        open_image_folder(folder)


def test_other_layouts_are_refused(folder: Path) -> None:
    (folder / "val" / "red").rename(folder / "val" / "pink")
    with pytest.raises(ValueError, match=r"expected the classes of .*train.*got others: pink"):
        open_image_folder(folder)
    shutil.rmtree(folder / "val")
    with pytest.raises(ValueError, match=r"expected images in .*val/<class>/"):
        open_image_folder(folder)


def test_an_epoch_shows_every_image_once_and_the_next_other_crops(folder: Path) -> None:
    files = open_image_folder(folder)[0]
    batches = training_batches(files)
    first, second = list(batches.epoch(0)), list(batches.epoch(1))
    assert len(first) == len(batches) == 4  # of 2; the ninth image is left out
    assert {tuple(batch.images.shape) for batch in first} == {(2, 3, 32, 32)}
    assert not any(torch.equal(one.images, other.images) for one in first for other in second)


def test_batches_depend_on_seed_and_place_only(folder: Path) -> None:
    """Neither on what was drawn before, nor on the workers, nor on where the epoch is taken up."""
    files = open_image_folder(folder)[0]
    whole = list(training_batches(files).epoch(3))
    torch.rand(5)
    state = torch.get_rng_state()
    assert_same(list(training_batches(files).epoch(3)), whole)
    assert torch.equal(torch.get_rng_state(), state), "loading must not move the global stream"
    assert_same(list(training_batches(files).epoch(3, start=2)), whole[2:])
    assert_same(list(training_batches(files, workers=1).epoch(3)), whole)


def test_broken_training_images_are_replaced_and_reported_once(folder: Path) -> None:
    files = open_image_folder(folder)[0]
    broken = Path(files.files[0][0])
    broken.write_bytes(b"no picture")
    said: list[str] = []
    batches = training_batches(files, said)
    sizes = [len(batch) for epoch in range(3) for batch in batches.epoch(epoch)]
    assert sizes == [2] * 12
    assert len(said) == 1
    assert str(broken) in said[0]


def test_broken_validation_images_are_left_out(folder: Path) -> None:
    files = open_image_folder(folder)[1]
    for file, _ in files.files[:3]:
        Path(file).write_bytes(b"")
    said: list[str] = []
    batches = list(validation_batches(files, said))
    assert [len(batch) for batch in batches] == [1, 2]
    assert len(said) == 3
    assert [label for batch in batches for label in batch.labels.tolist()] == [1, 2, 2]


def test_nothing_readable_is_an_error(folder: Path) -> None:
    files = open_image_folder(folder)[0]
    for file, _ in files.files:
        Path(file).write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 9 images"):
        next(training_batches(files).epoch(0))


def test_validation_is_the_normalized_middle() -> None:
    pixels = torch.zeros(3, 64, 128, dtype=torch.uint8)
    pixels[:, 16:48, 48:80] = 255
    seen = validation_transform(replace(SMALL_IMAGES, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))(pixels)
    assert seen.shape == (3, 32, 32)
    assert seen[:, 16, 16].tolist() == [1.0, 1.0, 1.0]
    assert seen[:, 0, 0].tolist() == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize("policy", ["rand_augment", "auto_augment", "none"])
def test_every_policy_gives_finite_squares(policy: str) -> None:
    transform = training_transform(replace(SMALL_IMAGES, policy=policy))  # type: ignore[arg-type]
    for height, width in ((3, 5), (40, 24), (200, 64)):
        seen = transform(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        assert seen.shape == (3, 32, 32)
        assert seen.dtype == torch.float32
        assert seen.isfinite().all()


def shares(mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    mix = mixing(replace(SMALL_IMAGES, mixup=mixup, cutmix=cutmix), num_classes=2)
    assert mix is not None
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    return mix(images, torch.tensor([0, 1]))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixed_labels_are_the_shares_of_the_pixels(mixup: float, cutmix: float) -> None:
    for _ in range(5):
        images, labels = shares(mixup, cutmix)
        assert labels.sum(1).tolist() == pytest.approx([1.0, 1.0])
        assert images.mean((1, 2, 3)).tolist() == pytest.approx(labels[:, 1].tolist(), abs=1e-5)


def test_mixing_can_be_left_out() -> None:
    assert mixing(replace(SMALL_IMAGES, mixup=0.0, cutmix=0.0), 2) is None
