"""Tiles for training: every object is seen, what is hardly visible is ignored, an epoch depends on its seed alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smidgen.boxes.tiles import TiledSide, TilePlan
from smidgen.data import Augmentation, DetectionDataset, Record, TiledDataset, TilingConfig, training_loader
from smidgen.data.geometry import Window, cut
from smidgen.data.sample import load_sample
from smidgen.data.tiled_dataset import tile_record
from smidgen.data.tiled_grid import shifted_starts, tile_table
from smidgen.structures import Classes, Preprocessing

CONFIG = TilingConfig(size_px=40, overlap=0.25, empty_share=0.25, mixed_images=2)
PREPROCESSING = Preprocessing(short_side=40, long_side=40)


def record_of(
    boxes: list[list[float]], size_hw: tuple[int, int] = (100, 130), labels: list[int] | None = None, name: str = "a"
) -> Record:
    chosen = [0] * len(boxes) if labels is None else labels
    return Record(
        Path(f"{name}.png"),
        name,
        size_hw,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(chosen, dtype=np.int64),
        np.zeros((0, 4), dtype=np.float32),
    )


def dataset_of(*records: Record) -> DetectionDataset:
    return DetectionDataset(Path("set"), "test", "train", Classes(("car", "bus"), (1, 2)), records)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Five images of 100 x 130 px; in the i-th, i objects of 8 px whose corner's pixel says where they are."""
    folder, rng, records = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for number in range(5):
        pixels = rng.integers(0, 255, (100, 130, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        corners = rng.integers(0, (122, 92), (number, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + 8], axis=1)
        records.append(replace(record_of(boxes.tolist(), name=str(number)), file=folder / f"{number}.png"))
    return dataset_of(*records)


@given(st.integers(1, 300), st.integers(1, 80), st.data())
def test_shifted_windows_cover_the_side_and_overlap_as_asked(extent: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    side, shift = TiledSide(extent, window, overlap), data.draw(st.integers(0, window - overlap - 1))
    starts = shifted_starts(side, shift)
    assert starts[0] == 0 and starts[-1] == max(extent - window, 0)
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= window - overlap).all()
    assert shift or starts == side.starts.tolist()


BOXES = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 90), st.integers(1, 40), st.integers(1, 40)).map(
        lambda box: [box[0], box[1], min(box[0] + box[2], 130), min(box[1] + box[3], 100)]
    ),
    max_size=6,
)


@settings(max_examples=30)
@given(BOXES, st.integers(0, 29), st.integers(0, 29), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_tile_counts_as_showing_objects_where_its_record_has_some(
    boxes: list[list[float]], down: int, right: int, visibility: float
) -> None:
    record, config = record_of(boxes), replace(CONFIG, visibility=visibility)
    table = tile_table([record], config, np.array([[down, right]]))
    for row in range(len(table)):
        labeled = tile_record(record, table.window(row, record.size_hw, config), visibility)
        assert (len(labeled) > 0) == (table.weights[row] > 0)


@settings(max_examples=30)
@given(BOXES, st.integers(0, 29), st.integers(0, 29))
def test_an_object_as_large_as_the_overlap_is_whole_in_a_tile(boxes: list[list[float]], down: int, right: int) -> None:
    small = [box for box in boxes if max(box[2] - box[0], box[3] - box[1]) <= CONFIG.overlap_px]
    record, config = record_of(small), replace(CONFIG, visibility=1.0)
    table = tile_table([record], config, np.array([[down, right]]))
    whole = set()
    for row in range(len(table)):
        window = table.window(row, record.size_hw, config)
        corner = np.array([window.left, window.top] * 2)
        whole |= {tuple(box) for box in tile_record(record, window, 1.0).boxes_xyxy + corner}
    assert whole == {tuple(box) for box in record.boxes_xyxy}


def test_the_unmoved_grid_is_that_of_prediction() -> None:
    record = record_of([])
    table = tile_table([record], CONFIG, np.zeros((1, 2), dtype=np.int64))
    plan = TilePlan(record.size_hw, CONFIG.size_px, CONFIG.overlap_px)
    assert table.corners.tolist() == plan.windows_xyxy[:, [1, 0]].tolist()


def test_a_tile_is_labeled_as_a_crop_of_the_image_is(dataset: DetectionDataset) -> None:
    record, window = (
        replace(dataset.records[4], ignore_xyxy=np.array([[0, 0, 50, 50]], np.float32)),
        Window(20, 30, 40, 40),
    )
    tile, sample = tile_record(record, window, 0.5), cut(load_sample(record), window, 0.5)
    assert torch.equal(torch.tensor(tile.boxes_xyxy), sample.boxes_xyxy)
    assert torch.equal(torch.tensor(tile.ignore_xyxy), sample.ignore_xyxy)


def test_what_is_hardly_visible_is_ignored_and_the_rest_is_clipped() -> None:
    record = record_of([[35, 0, 45, 10], [38, 20, 48, 30]], labels=[0, 1])
    tile = tile_record(record, Window(0, 0, 40, 40), 0.3)
    assert tile.boxes_xyxy.tolist() == [[35, 0, 40, 10]] and tile.labels.tolist() == [0]
    assert tile.ignore_xyxy.tolist() == [[38, 20, 40, 30]] and tile.region_labels.tolist() == [1]


def test_pixels_are_those_of_the_window(dataset: DetectionDataset) -> None:
    tiles = TiledDataset(dataset, CONFIG).epoch(3, seed=1)
    for row in range(len(tiles)):
        sample, record = tiles.load(row), tiles.record(row)
        image = np.asarray(Image.open(record.file))
        top, left = tiles.table.corners[row]
        assert sample.image.permute(1, 2, 0).numpy().tolist() == image[top : top + 40, left : left + 40].tolist()


def test_an_epoch_has_the_asked_share_of_empty_tiles(dataset: DetectionDataset) -> None:
    tiled = TiledDataset(dataset, CONFIG)
    for epoch in range(3):
        counts = [len(tiled.epoch(epoch, seed=0).record(row)) for row in range(len(tiled))]
        assert sum(count == 0 for count in counts) == tiled.num_empty == round(tiled.num_shown / 3)


def test_without_empty_tiles_every_tile_shows_an_object(dataset: DetectionDataset) -> None:
    tiled = TiledDataset(dataset, replace(CONFIG, empty_share=0.0))
    assert all(len(record) for record in tiled.records)


def test_rare_classes_are_drawn_more_often() -> None:
    cars = [
        [60.0 * (place % 20), 60.0 * (place // 20), 60.0 * (place % 20) + 8, 60.0 * (place // 20) + 8]
        for place in range(200)
    ]
    record = record_of(cars, size_hw=(700, 1300), labels=[1] + [0] * 199)
    plain = replace(CONFIG, size_px=30, overlap=0.0, empty_share=0.0, shifted=False)
    counts = []
    for config in (plain, replace(plain, rare_below=0.09)):
        tiles = TiledDataset(dataset_of(record), config)
        counts.append(sum(1 in labeled.labels for labeled in tiles.records))
    assert counts[0] == 1 and counts[1] >= 3


def test_epochs_differ_and_seeds_repeat_them(dataset: DetectionDataset) -> None:
    tiled = TiledDataset(dataset, CONFIG)
    places = [tiled.epoch(epoch, seed).table.corners.tolist() for epoch, seed in ((0, 5), (0, 5), (1, 5), (0, 6))]
    assert places[0] == places[1] and places[0] != places[2] and places[0] != places[3]


@pytest.mark.parametrize("changes", [{"workers": 2}, {"start": 2}])
def test_workers_and_resuming_change_nothing(dataset: DetectionDataset, changes: dict[str, int]) -> None:
    start, workers = changes.get("start", 0), changes.get("workers", 0)
    augmentation, tiled = replace(Augmentation(), mosaic=0.5), TiledDataset(dataset, CONFIG)
    loaders = [
        training_loader(
            tiled, preprocessing=PREPROCESSING, augmentation=augmentation, batch_size=2, seed=4, workers=number
        )
        for number in (0, workers)
    ]
    for loader in loaders:
        loader.set_epoch(1)
    whole, part = list(loaders[0])[start:], list(loaders[1].iterate(start))
    assert len(whole) == len(part) == len(loaders[0]) - start
    for (images, targets), (others, other_targets) in zip(whole, part, strict=True):
        assert torch.equal(images.pixels, others.pixels)
        for one, other in zip(targets, other_targets, strict=True):
            assert torch.equal(one.boxes_xyxy, other.boxes_xyxy) and torch.equal(one.ignore, other.ignore)


def test_tiles_of_few_images_are_mixed_at_a_time(dataset: DetectionDataset) -> None:
    loader = training_loader(
        TiledDataset(dataset, replace(CONFIG, mixed_images=1)),
        preprocessing=PREPROCESSING,
        augmentation=Augmentation(),
        batch_size=1,
        seed=0,
    )
    files = [targets[0].image_id for _, targets in loader]
    assert sum(one != other for one, other in pairwise(files)) == len(set(files)) - 1


def test_a_broken_image_is_left_out(
    dataset: DetectionDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = replace(dataset.records[4], file=tmp_path / "broken.png")
    tiled = TiledDataset(replace(dataset, records=(*dataset.records[:4], broken)), CONFIG)
    loader = training_loader(tiled, preprocessing=PREPROCESSING, augmentation=Augmentation(), batch_size=1, seed=0)
    assert len(list(loader)) == len(tiled)
    assert caplog.text.count("broken.png") == 1


@pytest.mark.parametrize("field", ["size_px", "overlap", "visibility", "empty_share", "rare_below", "mixed_images"])
def test_settings_out_of_range_name_their_field(field: str) -> None:
    with pytest.raises(ValueError, match=f"data.tiling.{field}"):
        replace(TilingConfig(), **{field: -1})  # type: ignore[arg-type]


def test_a_set_without_objects_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lower data\.tiling\.visibility"):
        TiledDataset(dataset_of(record_of([])), CONFIG)
