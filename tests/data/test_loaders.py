"""A batch depends on (seed, epoch, position) alone: not on workers, ranks, resuming, or what was read before."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dataset_cases import write_coco, write_image

from smidgen.data import Augmentation, DetectionDataset, evaluation_loader, open_dataset, training_loader
from smidgen.data.loaders import Batch, TrainingLoader
from smidgen.structures import Preprocessing

PREPROCESSING = Preprocessing(short_side=32, long_side=64, pad_multiple=8)
EVERYTHING = replace(
    Augmentation.small((24, 32), aerial=True), mosaic=0.5, copy_paste=1.0, hue=0.1, copy_paste_difference=1.0
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Eleven images of different shapes with 3 px boxes."""
    root = tmp_path_factory.mktemp("set")
    images, annotations = [], []
    for number in range(11):
        width, height = 40 + 7 * number, 90 - 5 * number
        write_image(root / "images" / f"{number}.png", width, height, number)
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for place in range(number % 4):
            bbox = [5 + 10 * place, 20, 3, 3]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": bbox})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return open_dataset(root)


def loader_of(dataset: DetectionDataset, augmentation: Augmentation = EVERYTHING, **changes: int) -> TrainingLoader:
    settings = {"batch_size": 2, "seed": 3, **changes}
    return training_loader(dataset, preprocessing=PREPROCESSING, augmentation=augmentation, **settings)  # type: ignore[arg-type]


def assert_same(batches: Iterable[Batch], others: Iterable[Batch]) -> None:
    for (images, targets), (other_images, other_targets) in zip(batches, others, strict=True):
        assert torch.equal(images.pixels, other_images.pixels)
        assert images.sizes == other_images.sizes
        for target, other in zip(targets, other_targets, strict=True):
            assert target.image_id == other.image_id
            assert torch.equal(target.boxes_xyxy, other.boxes_xyxy)
            assert torch.equal(target.ignore, other.ignore)
            assert torch.equal(target.labels, other.labels)


def test_workers_change_nothing(dataset: DetectionDataset) -> None:
    assert_same(loader_of(dataset), loader_of(dataset, workers=2))


def test_resuming_gives_the_tail(dataset: DetectionDataset) -> None:
    loader = loader_of(dataset)
    loader.set_epoch(4)
    whole = list(loader)
    assert len(whole) == len(loader) == 5
    resumed = loader_of(dataset)
    resumed.set_epoch(4)
    assert_same(whole[3:], resumed.iterate(start_step=3))
    assert_same([], resumed.iterate(start_step=5))


def test_two_ranks_see_what_one_sees(dataset: DetectionDataset) -> None:
    single = Augmentation(short_sides=(24, 32))
    whole = list(loader_of(dataset, single, batch_size=4))
    ranks = [list(loader_of(dataset, single, batch_size=2, rank=rank, world_size=2)) for rank in range(2)]
    for (_, targets), (_, left), (_, right) in zip(whole, *ranks, strict=True):
        assert [target.image_id for target in targets] == [target.image_id for target in left + right]
        assert [target.size_hw for target in targets] == [target.size_hw for target in left + right]


def test_loading_leaves_the_global_stream_alone(dataset: DetectionDataset) -> None:
    before = torch.get_rng_state()
    list(loader_of(dataset).iterate(4))
    assert torch.equal(before, torch.get_rng_state())


def test_epochs_differ(dataset: DetectionDataset) -> None:
    loader = loader_of(dataset)
    first = next(iter(loader))
    loader.set_epoch(1)
    assert not torch.equal(first[0].pixels, next(iter(loader))[0].pixels)


def test_combinations_stop(dataset: DetectionDataset) -> None:
    pasted = replace(Augmentation(), copy_paste=1.0, copy_paste_difference=1.0)
    stopped = replace(pasted, combine_epochs=0)

    def objects(augmentation: Augmentation) -> int:
        return sum(len(target) for _, targets in loader_of(dataset, augmentation, batch_size=11) for target in targets)

    assert objects(pasted) > objects(stopped) == sum(len(record) for record in dataset.records)


def test_batches_share_their_shape_draws(dataset: DetectionDataset) -> None:
    same = dataset.subset([3] * 6)
    augmentation = replace(Augmentation.small((24, 28, 32), aerial=True), crop=1.0)
    sizes = [images.sizes for images, _ in loader_of(same, augmentation, batch_size=3)]
    assert all(len(set(batch)) == 1 for batch in sizes)


def test_pixels_are_bytes_and_boxes_lie_inside(dataset: DetectionDataset) -> None:
    for images, targets in loader_of(dataset):
        assert images.pixels.dtype == torch.uint8
        assert all(side % 8 == 0 for side in images.pixels.shape[-2:])
        for target, size in zip(targets, images.sizes, strict=True):
            assert target.size_hw == size
            limits = torch.tensor([size[1], size[0]] * 2)
            assert bool((target.boxes_xyxy >= 0).all() and (target.boxes_xyxy <= limits + 1e-3).all())


def test_evaluation_sees_every_image_in_order(dataset: DetectionDataset) -> None:
    loader = evaluation_loader(dataset, preprocessing=PREPROCESSING, batch_size=4)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    targets = [target for _, batch in batches for target in batch]
    assert [target.image_id for target in targets] == list(range(11))
    for target, record in zip(targets, dataset.records, strict=True):
        assert target.original_hw == record.size_hw
        assert target.size_hw == PREPROCESSING.resized_hw(*record.size_hw)
        assert len(target) == len(record)


def test_small_sets_give_their_only_batch(dataset: DetectionDataset) -> None:
    loader = loader_of(dataset.subset([0, 1, 2]), Augmentation.none(), batch_size=8)
    assert [len(images) for images, _ in loader] == [3]
    with pytest.raises(ValueError, match="at least one image"):
        loader_of(dataset.subset([]))
    with pytest.raises(ValueError, match="batch_size"):
        loader_of(dataset, batch_size=0)


def broken_set(root: Path) -> DetectionDataset:
    write_coco(root)
    (root / "train" / "images" / "b.png").write_bytes(b"")
    return open_dataset(root)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_replaced_and_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    loader = loader_of(broken_set(tmp_path), Augmentation.none(), batch_size=3, workers=workers)
    with caplog.at_level(logging.WARNING):
        for epoch in range(3):
            loader.set_epoch(epoch)
            ((images, targets),) = list(loader)
            assert len(images) == 3
            assert sorted(target.image_id for target in targets) == [1, 3, 3]
    assert len(caplog.records) == 1
    assert "b.png: the file is empty" in caplog.text


def test_unreadable_images_are_left_out_of_evaluation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loader = evaluation_loader(broken_set(tmp_path), preprocessing=PREPROCESSING, batch_size=1)
    seen = [target.image_id for _ in range(2) for _, targets in loader for target in targets]
    assert seen == [1, 3, 1, 3]
    assert len(caplog.records) == 1


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    dataset = broken_set(tmp_path).subset([1])
    with pytest.raises(ValueError, match="none of the 1 images"):
        list(loader_of(dataset, Augmentation.none()))


def test_images_of_another_size_than_stated_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_coco(tmp_path)
    write_image(tmp_path / "train" / "images" / "c.png", 20, 10)
    loader = evaluation_loader(open_dataset(tmp_path), preprocessing=PREPROCESSING, batch_size=3)
    assert [len(targets) for _, targets in loader] == [2]
    assert "20 x 10 px, but its annotations say 80 x 40" in caplog.text


@pytest.mark.parametrize("size_wh", [(10000, 1), (1, 10000), (1, 1), (10000, 3)])
def test_extreme_shapes_pass(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    write_image(tmp_path / "images" / "long.png", width, height)
    content = {
        "images": [{"id": "long", "file_name": "long.png", "width": width, "height": height}],
        "annotations": [{"id": 1, "image_id": "long", "category_id": 0, "bbox": [0, 0, width, height]}],
        "categories": [{"id": 0, "name": "strip"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path)
    recipes = [
        Augmentation.detr(),
        Augmentation.small(aerial=True),
        replace(Augmentation.small(), mosaic=1.0, crop=1.0),
    ]
    for augmentation in recipes:
        loader = loader_of(dataset, replace(augmentation, copy_paste=1.0))
        for epoch in range(2):
            loader.set_epoch(epoch)
            assert [len(images) for images, _ in loader] == [1]
    evaluated = next(iter(evaluation_loader(dataset, preprocessing=PREPROCESSING, batch_size=1)))
    assert len(evaluated[1][0]) == 1
