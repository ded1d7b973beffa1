"""Windows hold the pixels that the whole image has there, whatever reads them, and say what cannot be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from smidgen.data.image_files import UnreadableImageError, read_image
from smidgen.data.windows import DecodedImage, PixelRules, open_windows
from smidgen.data.windows.decoded_image import decoded_whole
from smidgen.data.windows.uncompressed_tiff import UncompressedTiff, is_readable_in_windows

WINDOWS = [(0, 0, 60, 50), (10, 5, 43, 49), (59, 49, 60, 50), (31, 0, 60, 33)]


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 60, 3), dtype=np.uint8))


def assert_same_windows(reader, whole):
    assert reader.size_hw == tuple(whole.shape[1:])
    for left, top, right, bottom in WINDOWS:
        window = reader.read((left, top, right, bottom))
        assert torch.equal(window, whole[:, top:bottom, left:right])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("rows_per_strip", [1, 7, 50])
def test_uncompressed_tiff_is_read_strip_by_strip(tmp_path, picture, mode, rows_per_strip):
    path = tmp_path / "a.tif"
    picture.convert(mode).save(path, tiffinfo={278: rows_per_strip}, strip_size=rows_per_strip * 180)
    assert is_readable_in_windows(path)
    with UncompressedTiff.open(path) as reader:
        assert_same_windows(reader, read_image(path))
        assert reader.reduced((10, 12)).shape == (3, 10, 12)


def test_a_truncated_tiff_is_unreadable_where_it_ends(tmp_path, picture):
    path = tmp_path / "a.tif"
    picture.save(path)
    with UncompressedTiff.open(path) as whole:
        last = int(whole.offsets[-1])
    content = path.read_bytes()
    path.write_bytes(content[:last])  # the header lies before the pixels
    if not is_readable_in_windows(path):
        pytest.skip("this Pillow writes the header behind the pixels")
    with UncompressedTiff.open(path) as reader, pytest.raises(UnreadableImageError, match="truncated"):
        reader.read((0, 0, 60, 50))


def test_a_damaged_header_asks_for_no_memory(tmp_path, picture):
    path = tmp_path / "a.tif"
    picture.save(path)
    with UncompressedTiff.open(path) as reader:
        beyond = replace(reader, row_bytes=reader.row_bytes * 2**40)  # bytes that nobody has
        with pytest.raises(UnreadableImageError, match="truncated"):
            beyond.read((0, 0, 60, 50))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_any_file_opens(tmp_path, picture, suffix):
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    with open_windows(path) as reader:
        assert_same_windows(reader, read_image(path))


def test_what_must_be_decoded_whole_is_bounded(tmp_path, picture):
    path = tmp_path / "a.png"
    picture.save(path)
    assert isinstance(decoded_whole(path, 60 * 50 * 7), DecodedImage)
    with pytest.raises(UnreadableImageError, match=r"60 x 50 px must be decoded whole.*tiled TIFF"):
        decoded_whole(path, 60 * 50 * 7 - 1)


def test_decompression_bombs_are_refused_in_our_words(tmp_path, picture, monkeypatch):
    path = tmp_path / "a.png"
    picture.save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImageError, match="decoded whole, and is too large"):
        decoded_whole(path, 2**30)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImageError, match="No such file"), open_windows(tmp_path / "a.tif"):
        pass


def test_a_turned_tiff_is_read_upright(tmp_path, picture):
    path = tmp_path / "a.tif"
    picture.save(path, tiffinfo={274: 6})
    with open_windows(path) as reader:
        assert reader.size_hw == (60, 50)
        assert torch.equal(reader.read((0, 0, 50, 60)), read_image(path))


@pytest.mark.parametrize("settings", [{"bands": (0, 1, 2)}, {"value_range": (5.0, 5.0)}])
def test_rules_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        PixelRules(**settings)
