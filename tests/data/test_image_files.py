"""Every kind of picture becomes upright uint8 RGB; everything else says what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smidgen.data.image_files import UnreadableImageError, read_image, read_size_hw, shown


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("image.tif" if mode in ("CMYK", "I;16") else "image.png")
    Image.new("L", (5, 3), 255).convert(mode if mode != "I;16" else "L").save(file)
    if mode == "I;16":
        Image.fromarray(np.full((3, 5), 65535, dtype=np.uint16)).save(file)
    image = read_image(file)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 3, 5)
    assert (image == 255).all()


def test_16_bits_keep_the_high_byte(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[1].tolist() == [[0, 1, 128, 255]]


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    pixels = np.full((1, 2, 4), 200, dtype=np.uint8)
    pixels[0, :, 3] = (0, 255)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png")[0].tolist() == [[0, 200]]


def test_exif_turns_upright_unless_annotated_as_stored(tmp_path: Path) -> None:
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(file, exif=exif)
    assert read_image(file).shape == (3, 40, 20)
    assert read_size_hw(file) == (40, 20)
    assert read_image(file, (40, 20)).shape == (3, 40, 20)
    assert read_image(file, (20, 40)).shape == (3, 20, 40)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_header_states_the_size_of_the_upright_image(tmp_path: Path, suffix: str) -> None:
    file, exif = tmp_path / f"turned.{suffix}", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(file, exif=exif)
    assert read_size_hw(file) == (40, 20) == tuple(read_image(file).shape[1:])


def test_the_size_of_a_huge_tiff_is_read_since_its_windows_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in ("tif", "png"):
        Image.new("RGB", (40, 20)).save(tmp_path / f"a.{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_size_hw(tmp_path / "a.tif") == (20, 40)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        read_size_hw(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"II*\0 no tiff", b"II*\0", b"MM\0*" + bytes(20)])
def test_what_only_begins_as_a_tiff_has_no_size(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"a\.tif"):
        read_size_hw(tmp_path / "a.tif")


def test_half_turns_apply_although_the_size_stays(tmp_path: Path) -> None:
    file = tmp_path / "upside_down.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8)).save(file, exif=exif)
    assert read_image(file, (1, 2))[0].tolist() == [[255, 0]]


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UnreadableImageError, match="zero bytes") as caught:
        read_image(tmp_path / "empty.jpg")
    assert caught.value.path == tmp_path / "empty.jpg"


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_image(file)


def test_not_a_picture_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UnreadableImageError, match="known format"):
        read_image(tmp_path / "text.png")
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_size_hw(tmp_path / "nothing.png")
    with pytest.raises(UnreadableImageError):
        read_image(tmp_path)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImageError, match="tiles"):
        read_image(tmp_path / "huge.png")


def test_names_that_are_not_utf8_can_be_read_and_shown(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"na\xefve.png")
    Image.new("L", (2, 2)).save(file)
    assert read_image(file).shape == (3, 2, 2)
    shown(file).encode("utf-8")
    with pytest.raises(UnreadableImageError) as caught:
        read_image(file.with_suffix(".jpg"))
    str(caught.value).encode("utf-8")


def test_unreadable_errors_survive_a_process_border() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(UnreadableImageError("a.png", "broken")))
    assert error.reason == "broken"
