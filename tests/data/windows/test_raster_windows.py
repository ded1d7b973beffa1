"""Rasters of many kinds through rasterio: bands, value ranges, palettes and no-data by one rule."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from smidgen.data.image_files import UnreadableImageError, read_image
from smidgen.data.windows import PixelRules, open_windows
from smidgen.data.windows.raster_windows import open_raster

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
rasterio = pytest.importorskip("rasterio")

VALUES = np.random.default_rng(5).integers(0, 256, (6, 70, 90), dtype=np.uint8)


def write(path, values, **profile):
    count, height, width = values.shape
    layout = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", **layout, **profile) as raster:
        raster.write(values)
    return path


def read(path, rules=None, window=(10, 20, 60, 70)):
    with open_raster(path, rules or PixelRules()) as reader:
        return reader.read(window)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"compress": "deflate"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw"},
        {"tiled": True, "blockxsize": 32, "blockysize": 32, "BIGTIFF": "YES"},
        {"interleave": "band"},
    ],
)
def test_rgb_is_what_the_whole_image_has(tmp_path, profile):
    path = write(tmp_path / "a.tif", VALUES[:3], photometric="RGB", **profile)
    assert torch.equal(read(path), torch.from_numpy(VALUES[:3, 20:70, 10:60].copy()))
    with open_windows(path) as reader:
        assert reader.size_hw == (70, 90)
        assert torch.equal(reader.read((0, 0, 90, 70)), torch.from_numpy(VALUES[:3]))
        assert reader.reduced((7, 9)).shape == (3, 7, 9)


def test_bands_are_those_that_say_so_or_those_asked_for(tmp_path):
    path = write(tmp_path / "a.tif", VALUES)
    expected = torch.from_numpy(VALUES[:, 20:70, 10:60].copy())
    assert torch.equal(read(path), expected[:3])
    assert torch.equal(read(path, PixelRules(bands=(5, 4, 2))), expected[[4, 3, 1]])
    with pytest.raises(UnreadableImageError, match="it has 6 bands"):
        read(path, PixelRules(bands=(7, 1, 2)))


def test_16_bits_are_scaled_as_pictures_are(tmp_path):
    values = VALUES[:1].astype(np.uint16) * 251 + 13
    path = tmp_path / "a.tif"
    Image.fromarray(values[0]).save(path)
    assert torch.equal(read(path), read_image(path)[:, 20:70, 10:60])


def test_other_types_need_a_range_of_values(tmp_path):
    path = write(tmp_path / "a.tif", (VALUES[:1].astype(np.float32) - 100) / 10)
    with pytest.raises(UnreadableImageError, match=r"float32.*--value-range"):
        read(path)
    shown = read(path, PixelRules(value_range=(0.0, 10.0)))
    expected = np.round(np.clip((VALUES[0, 20:70, 10:60] - 100.0) / 100, 0, 1) * 255)
    assert shown.shape == (3, 50, 50) and np.abs(shown[0].numpy() - expected).max() <= 1


def test_rules_that_would_not_be_followed_are_refused(tmp_path):
    Image.fromarray(VALUES[0].astype(np.uint16) * 40).save(tmp_path / "deep.png")
    for rules in (PixelRules(value_range=(0, 3000)), PixelRules(bands=(1, 1, 1))):
        with (
            pytest.raises(UnreadableImageError, match="--value-range are for TIFF"),
            open_windows(tmp_path / "deep.png", rules),
        ):
            pass
    with open_windows(tmp_path / "deep.png", PixelRules()) as reader:
        assert reader.size_hw == (70, 90)


def test_no_data_is_black_and_nothing_but_no_data_is_nothing(tmp_path):
    values = VALUES[:3].copy()
    values[:, :40, :50] = 7
    values[:, 45, 55] = 7
    path = write(tmp_path / "a.tif", values, nodata=7)
    assert read(path, window=(0, 0, 50, 40)) is None
    shown = read(path, window=(50, 40, 90, 70))
    assert shown[:, 5, 5].tolist() == [0, 0, 0]


def test_transparent_pixels_fade_to_black_as_in_pictures(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.ascontiguousarray(VALUES[:4].transpose(1, 2, 0)), "RGBA").save(path)
    assert torch.equal(read(path), read_image(path)[:, 20:70, 10:60])


def test_palettes_become_colors(tmp_path):
    path = tmp_path / "a.tif"
    colors = Image.fromarray(np.ascontiguousarray(VALUES[:3].transpose(1, 2, 0)))
    colors.quantize(16).save(path)
    assert torch.equal(read(path), read_image(path)[:, 20:70, 10:60])


def test_a_damaged_block_is_unreadable(tmp_path):
    path = write(tmp_path / "a.tif", VALUES[:3], compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 600] = b"\0" * 600
    path.write_bytes(bytes(content))
    with pytest.raises(UnreadableImageError):
        read(path, window=(0, 0, 90, 70))


def test_complex_values_are_refused_whatever_their_range(tmp_path):
    path = write(tmp_path / "a.tif", VALUES[:1].astype(np.complex64))
    with pytest.raises(UnreadableImageError, match="its values are complex64"):
        read(path, PixelRules(value_range=(0.0, 10.0)))


def test_a_name_that_is_not_utf8_is_unreadable(tmp_path):
    path = write(tmp_path / "a.tif", VALUES[:3]).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.tif"))
    with pytest.raises(UnreadableImageError, match="names in UTF-8 only; rename"):
        read(path)


@pytest.mark.parametrize("end", [0.5, 0.99])
def test_a_file_that_ends_early_says_what_is_wrong(tmp_path, end, recwarn):
    path = write(tmp_path / "a.tif", VALUES[:3], compress="lzw", tiled=True, blockxsize=16, blockysize=16)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * end)])
    recwarn.clear()
    with pytest.raises(UnreadableImageError) as failure, open_windows(path) as reader:
        reader.read((0, 0, 90, 70))
    assert "See previous exception" not in failure.value.reason and not recwarn.list
