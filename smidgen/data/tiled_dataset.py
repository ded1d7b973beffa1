"""A data set seen as tiles of its images: another draw of tiles every epoch, nothing written to disk.

An epoch has as many tiles as the images have with objects (in the grid that begins in the corner), and as many without
as the settings ask for. Where an epoch's own grid has more of them some wait for another epoch; which ones depends on
the seed and the epoch alone, so that workers, ranks and resumed runs agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import overload

import numpy as np

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.geometry import Window
from smidgen.data.sample import Sample, sample_of
from smidgen.data.sliding_windows import clipped
from smidgen.data.tiled_grid import Floats, Ints, TileTable, tile_table
from smidgen.data.tiled_reading import OpenImages
from smidgen.data.tiled_training import TilingConfig
from smidgen.structures import Classes, ObjectSizes

# First word of the seeds, so that no other purpose shares the random stream (others: data/batch_order.py).
_TILE_STREAM = 3


class TiledDataset:
    """Tiles of `dataset` for `smidgen.data.training_loader`. ValueError where no tile shows an object."""

    def __init__(self, dataset: DetectionDataset, config: TilingConfig) -> None:
        self.dataset, self.config = dataset, config
        unmoved = tile_table(dataset.records, config, np.zeros((len(dataset), 2), dtype=np.int64))
        self.num_shown, self.num_empty = _quotas(unmoved, config)
        if not self.num_shown:
            raise ValueError(
                f"expected tiles with objects in {dataset.path} {dataset.split}, got none of {len(dataset)} images; "
                "check the annotations, or lower data.tiling.visibility"
            )

    @property
    def classes(self) -> Classes:
        """Of the images."""
        return self.dataset.classes

    @property
    def object_sizes(self) -> ObjectSizes | None:
        """Of the images' objects, not of what tiles show of them."""
        return self.dataset.object_sizes

    @property
    def records(self) -> Sequence[Record]:
        """What is labeled in each tile of an epoch."""
        return self.labels.records

    @cached_property
    def labels(self) -> DetectionDataset:
        """An epoch's tiles as if they were images, for statistics: their files hold more than their records say."""
        return replace(self.dataset, records=_TileRecords(self.epoch(0, seed=0)))

    def __len__(self) -> int:
        """Tiles of an epoch."""
        return self.num_shown + self.num_empty

    def epoch(self, epoch: int, seed: int) -> EpochTiles:
        """The tiles of an epoch, in no order of meaning."""
        rng = np.random.default_rng([_TILE_STREAM, seed, epoch])
        furthest = self.config.size_px - self.config.overlap_px if self.config.shifted else 1
        shifts = rng.integers(0, furthest, size=(len(self.dataset), 2))
        table = tile_table(self.dataset.records, self.config, shifts)
        shown = _drawn(table.weights, self.num_shown, rng)
        empty = _drawn((table.weights == 0).astype(np.float64), self.num_empty, rng)
        rows = np.concatenate([shown, empty])
        return EpochTiles(self.dataset, self.config, table.chosen(rows))


@dataclass(frozen=True, slots=True)
class EpochTiles:
    """The drawn tiles of an epoch."""

    dataset: DetectionDataset
    config: TilingConfig
    table: TileTable
    images: OpenImages = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", OpenImages(self.config.mixed_images))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def sources(self) -> Ints:
        """Index of the image that each tile is cut from."""
        return self.table.image

    def load(self, row: int) -> Sample:
        """The pixels and objects of a tile. Raises UnreadableImageError."""
        record, window = self._place(row)
        return sample_of(tile_record(record, window, self.config.visibility), self.images.window(record, window))

    def record(self, row: int) -> Record:
        """What is labeled in a tile."""
        record, window = self._place(row)
        return tile_record(record, window, self.config.visibility)

    def _place(self, row: int) -> tuple[Record, Window]:
        record = self.dataset.records[self.table.image[row]]
        return record, self.table.window(row, record.size_hw, self.config)


def tile_record(record: Record, window: Window, visibility: float) -> Record:
    """What is labeled in a window, in its pixels. Objects of which it shows a smaller share are ignored in it."""
    boxes, shares = clipped(record.boxes_xyxy, window)
    regions, region_shares = clipped(record.ignore_xyxy, window)
    shown, left_over = (shares > 0) & (shares >= visibility), (shares > 0) & (shares < visibility)
    return Record(
        file=record.file,
        image_id=record.image_id,
        size_hw=(window.height, window.width),
        boxes_xyxy=boxes[shown].astype(np.float32),
        labels=record.labels[shown],
        ignore_xyxy=np.concatenate([regions[region_shares > 0], boxes[left_over]]).astype(np.float32),
        ignore_labels=np.concatenate([record.region_labels[region_shares > 0], record.labels[left_over]]),
    )


def _quotas(table: TileTable, config: TilingConfig) -> tuple[int, int]:
    """How many tiles of an epoch show objects, and how many do not."""
    shown = round(float(table.weights.sum()))
    wanted = round(shown * config.empty_share / (1 - config.empty_share))
    return shown, min(wanted, int((table.weights == 0).sum()))


def _drawn(weights: Floats, count: int, rng: np.random.Generator) -> Ints:
    """`count` rows by weight (systematic sampling): each as often as its weight asks for, rounded up or down."""
    order = rng.permutation(np.flatnonzero(weights))
    if not count or not len(order):
        return order[:0]
    reached = np.cumsum(weights[order])
    marks = (np.arange(count) + rng.random()) * (reached[-1] / count)
    return order[np.searchsorted(reached, marks, side="right").clip(max=len(order) - 1)]


class _TileRecords(Sequence[Record]):
    """Records that are made when asked for, since all of them together may be large."""

    def __init__(self, tiles: EpochTiles) -> None:
        self.tiles = tiles

    def __len__(self) -> int:
        return len(self.tiles)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return [self.tiles.record(row) for row in range(len(self))[index]]
        return self.tiles.record(range(len(self))[index])
