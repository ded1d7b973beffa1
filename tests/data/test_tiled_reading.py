"""Tiles read from windows have the pixels of the decoded image, and few images stay open."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smidgen.data import Record, UnreadableImageError
from smidgen.data import tiled_reading as reading
from smidgen.data.geometry import Window
from smidgen.data.sample import read_annotated
from smidgen.data.tiled_reading import OpenImages

SIZE_HW = (90, 120)
WINDOWS = (Window(0, 0, 90, 90), Window(17, 33, 40, 40), Window(50, 50, 40, 40))
PIXELS = np.random.default_rng(1).integers(0, 256, (*SIZE_HW, 4), dtype=np.uint8)


def record_of(file: Path, size_hw: tuple[int, int] = SIZE_HW) -> Record:
    nothing = np.zeros((0, 4), np.float32)
    return Record(file, file.name, size_hw, nothing, np.zeros(0, np.int64), nothing)


def assert_pixels_of_the_decoded_image(record: Record) -> None:
    images, whole = OpenImages(1), read_annotated(record)
    for window in WINDOWS:
        rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
        pixels = images.window(record, window)
        assert torch.equal(pixels, whole[:, rows, columns]) and pixels.is_contiguous()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16", "1", "CMYK"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
def test_tiff_of_every_kind(tmp_path: Path, mode: str, compression: str | None) -> None:
    file = tmp_path / "a.tif"
    if mode == "I;16":
        picture = Image.fromarray(PIXELS[..., :2].copy().view(np.uint16)[..., 0])
    else:
        picture = Image.fromarray(PIXELS).convert("RGBA" if mode == "RGBA" else "RGB").convert(mode)
    picture.save(file, compression=compression)
    assert_pixels_of_the_decoded_image(record_of(file))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.jp2"])
def test_other_formats(tmp_path: Path, name: str) -> None:
    Image.fromarray(PIXELS).convert("RGB").save(tmp_path / name)
    assert_pixels_of_the_decoded_image(record_of(tmp_path / name))


@pytest.mark.parametrize("compression", ["none", "lzw", "jpeg"])
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_tiff_in_tiles(tmp_path: Path, compression: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    layout = {"driver": "GTiff", "count": 3, "height": 90, "width": 120, "dtype": "uint8", "photometric": "RGB"}
    file = tmp_path / "a.tif"
    with rasterio.open(file, "w", **layout, tiled=True, blockxsize=32, blockysize=32, compress=compression) as raster:
        raster.write(PIXELS[..., :3].transpose(2, 0, 1))
    assert_pixels_of_the_decoded_image(record_of(file))


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize(("orientation", "size_hw"), [(3, SIZE_HW), (6, (120, 90))])
def test_a_turned_image_is_upright(tmp_path: Path, suffix: str, orientation: int, size_hw: tuple[int, int]) -> None:
    file, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS[..., :3]).save(file, exif=exif)
    assert_pixels_of_the_decoded_image(record_of(file, size_hw))


def test_values_that_rasters_do_not_have_are_decoded(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(PIXELS[..., 0].astype(np.int32) * 257).save(file)
    assert_pixels_of_the_decoded_image(record_of(file))


def test_a_tiff_is_never_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(PIXELS[..., :3]).save(file)
    monkeypatch.setattr(reading, "read_annotated", None)
    assert OpenImages(1).window(record_of(file), WINDOWS[1]).shape == (3, 40, 40)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_file_of_another_size_than_annotated_is_unreadable(tmp_path: Path, name: str) -> None:
    Image.fromarray(PIXELS[..., :3]).save(tmp_path / name)
    with pytest.raises(UnreadableImageError, match="120 x 90 px, but its annotations say 60 x 60; mend"):
        OpenImages(1).window(record_of(tmp_path / name, (60, 60)), Window(0, 0, 40, 40))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened and closed, in order."""
    seen: list[str] = []
    open_in_parts = reading.open_in_parts

    @contextmanager
    def told(path: Path) -> Iterator[object]:
        inner = open_in_parts(path)
        assert inner is not None
        with inner as reader:
            seen.append(f"open {path.name}")
            yield reader
            seen.append(f"close {path.name}")

    monkeypatch.setattr(reading, "open_in_parts", told)
    return seen


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    files = [tmp_path / f"{number}.tif" for number in range(3)]
    for file in files:
        Image.fromarray(PIXELS[..., :3]).save(file)
    return [record_of(file) for file in files]


def test_the_image_used_longest_ago_is_closed(opened: list[str], records: list[Record]) -> None:
    images = OpenImages(2)
    for number in (0, 1, 0, 2, 0, 1):
        images.window(records[number], WINDOWS[1])
    assert opened == ["open 0.tif", "open 1.tif", "open 2.tif", "close 1.tif", "open 1.tif", "close 2.tif"]


def test_another_process_opens_images_itself(
    opened: list[str], records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = OpenImages(2)
    images.window(records[0], WINDOWS[0])
    assert pickle.loads(pickle.dumps(images)).capacity == 2
    monkeypatch.setattr(reading.os, "getpid", lambda: -1)
    images.window(records[0], WINDOWS[0])
    assert opened.count("open 0.tif") == 2
