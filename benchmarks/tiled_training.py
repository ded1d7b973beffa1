"""What reading a tile for training takes: images decoded whole and kept, beside windows of them.

    python benchmarks/tiled_training.py [--rounds 5] [--quick] [--side 4000] [--large 20000]

Two generated scenes of `--side` px in each format, tiles of 640 px that overlap by 20 %, in the order that training
asks for them, from files that nothing has opened yet; "one of four workers" reads every fourth batch of four. Only
reading is measured: neither augmentation nor resizing. One thread, files in the page cache. Pixels of both are compared
in tests/data/test_tiled_reading.py. An image of `--large` px is beyond what Pillow decodes: windows alone.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Recording, parser, recording
from PIL import Image
from tiled_inference import Scene, mosaic

from smidgen.data import DetectionDataset, Record, TiledDataset, TilingConfig
from smidgen.data.batch_order import BatchOrder
from smidgen.data.geometry import Window
from smidgen.data.sample import read_annotated
from smidgen.data.tiled_reading import OpenImages
from smidgen.structures import Classes

CONFIG = TilingConfig(size_px=640, overlap=0.2)
BATCH, WORKERS, IMAGES = 4, 4, 2
Places = Sequence[tuple[Record, Window]]


class WholeImages:
    """As training read tiles before it read windows."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.decoded: OrderedDict[str, torch.Tensor] = OrderedDict()

    def window(self, record: Record, window: Window) -> torch.Tensor:
        key = str(record.file)
        if key not in self.decoded:
            self.decoded[key] = read_annotated(record)
            if len(self.decoded) > self.capacity:
                self.decoded.popitem(last=False)
        self.decoded.move_to_end(key)
        rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
        return self.decoded[key][:, rows, columns].clone()


def main() -> None:
    settings = parser(__doc__, rounds=5, side=(4000, 1500), large=(20000, 4000)).parse_args()
    with recording(__file__, settings) as record, tempfile.TemporaryDirectory() as folder:
        scene = mosaic(Path(folder), (settings.side, settings.side))
        for name, write in FORMATS.items():
            beside_whole(record, name, places_of(dataset_of(scene, partial(write, scene.file))))
        large = mosaic(Path(folder), (settings.large, settings.large))
        places = places_of(dataset_of(large, lambda number: large.file, images=1))
        name = f"TIFF in tiles, uncompressed, {settings.large} px, {len(places)} tiles"
        record.measure(name, {"windows": partial(read, OpenImages, places)}, against="windows")


def beside_whole(record: Recording, name: str, places: Places) -> None:
    """All tiles, and those of one worker."""
    batches = [places[start : start + BATCH] for start in range(0, len(places), BATCH)]
    mine = [place for batch in batches[::WORKERS] for place in batch]
    for reader, chosen in (("one process", places), ("one of four workers", mine)):
        variants = {"decoded whole": partial(read, WholeImages, chosen), "windows": partial(read, OpenImages, chosen)}
        record.measure(f"{name}, {reader}, {len(chosen)} tiles", variants, against="decoded whole")


def read(reader: Callable[[int], Any], places: Places) -> None:
    """Every tile once, by a reader that has nothing open yet."""
    images = reader(CONFIG.mixed_images)
    for place in places:
        images.window(*place)


def places_of(dataset: DetectionDataset) -> Places:
    """Where the tiles of an epoch lie, in training's order."""
    tiles = TiledDataset(dataset, CONFIG).epoch(0, seed=0)
    order = BatchOrder(len(tiles), 1, seed=0, sources=tiles.sources, mixed=CONFIG.mixed_images)
    records = [dataset.records[image] for image in tiles.table.image]
    rows = [key.index for batch in order.epoch(0) for key in batch]
    return [(records[row], tiles.table.window(row, records[row].size_hw, CONFIG)) for row in rows]


def dataset_of(scene: Scene, write: Callable[[int], Path], images: int = IMAGES) -> DetectionDataset:
    """The scene as so many files."""
    boxes = scene.boxes_xyxy.numpy()
    labels, regions = np.zeros(len(boxes), np.int64), np.zeros((0, 4), np.float32)
    records = [Record(write(number), number, scene.size_hw, boxes, labels, regions) for number in range(images)]
    return DetectionDataset(scene.file.parent, "generated", "train", Classes(("object",), (1,)), records)


def by_pillow(scene: Path, number: int, *, suffix: str, **options: Any) -> Path:
    """The scene in another format."""
    file = scene.with_name(f"{number}{suffix}")
    with Image.open(scene) as picture:
        picture.save(file, **options)
    return file


def in_tiles(scene: Path, number: int, **options: Any) -> Path:
    """The scene as TIFF in tiles of 256 px."""
    import rasterio

    file = scene.with_name(f"{number}-tiles.tif")
    with rasterio.open(scene) as source:
        layout = {**source.profile, "blockxsize": 256, "blockysize": 256, **options}
        with rasterio.open(file, "w", **layout) as raster:
            raster.write(source.read())
    return file


FORMATS: dict[str, Callable[[Path, int], Path]] = {
    "TIFF in tiles, uncompressed": in_tiles,
    "TIFF in tiles, deflate": partial(in_tiles, compress="deflate"),
    "TIFF in strips, LZW": partial(by_pillow, suffix=".tif", compression="tiff_lzw"),
    "PNG": partial(by_pillow, suffix=".png"),
}


if __name__ == "__main__":
    main()
