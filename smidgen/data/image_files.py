"""From a picture file of almost any kind to uint8 RGB pixels, upright, or an error that says what is wrong with it."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, PREFIXES, TiffImageFile
from torch import Tensor

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"})
EXIF_ORIENTATION = 0x0112
QUARTER_TURNS = (5, 6, 7, 8)  # values of that tag by which rows and columns change places
# What Pillow's decoders raise on broken files, besides OSError.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError)


class UnreadableImageError(ValueError):
    """A file that is not a complete picture. path: the file; reason: what is wrong, in words."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot read the image {shown(self.path)}: {self.reason}"


def shown(path: Path | str) -> str:
    """A path as printable text, also where its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def read_image(
    path: Path | str, size_hw: tuple[int, int] | None = None, *, content: BinaryIO | None = None
) -> UInt8[Tensor, "3 H W"]:
    """Pixels 0..255 in RGB order, turned upright as EXIF says.

    1-bit, palette and gray images become RGB; 16-bit gray is scaled from 0..65535; transparent pixels fade to black, as
    padding is. size_hw: the size the annotations were made on; where that is the stored size and turning would change
    it, the pixels stay as they are stored. content: the bytes of a picture that is not on this disk; `path` then only
    names it. Raises UnreadableImageError.
    """
    try:
        with warnings.catch_warnings(), Image.open(path if content is None else content) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _require_pixels(picture, path)
            upright = picture if _annotated_as_stored(picture, size_hw) else ImageOps.exif_transpose(picture)
            pixels = _rgb(upright, path)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(path, _too_large(error)) from error
    except UnreadableImageError:
        raise
    except _DECODING_ERRORS as error:
        raise UnreadableImageError(path, _reason(path, error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_size_hw(path: Path | str) -> tuple[int, int]:
    """(height, width) in pixels of the upright image, from the file's header only. Raises UnreadableImageError, also
    for an image that Pillow refuses to decode for its size, unless it is a TIFF: those can be read in windows.
    """
    try:
        with warnings.catch_warnings(), _header(path) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = _stored_wh(picture)
            turned = _is_turned(picture)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(path, _too_large(error)) from error
    except _DECODING_ERRORS as error:
        raise UnreadableImageError(path, _reason(path, error)) from error
    return (width, height) if turned else (height, width)


def _header(path: Path | str) -> Image.Image:
    with Path(path).open("rb") as file:
        is_tiff = file.read(4) in PREFIXES
    try:
        return TiffImageFile(path) if is_tiff else Image.open(path)  # which refuses what is large
    except SyntaxError as error:  # what Image.open makes of it
        raise UnidentifiedImageError(str(error)) from error


def _annotated_as_stored(picture: Image.Image, size_hw: tuple[int, int] | None) -> bool:
    """Only where a quarter turn tells: the stored size is the annotations' size, and the upright one is not."""
    width, height = _stored_wh(picture)
    return size_hw == (height, width) and height != width and _is_turned(picture)


def _stored_wh(picture: Image.Image) -> tuple[int, int]:
    """Width and height before any turning. Of a TIFF, which it turns itself, Pillow may state the upright size."""
    if isinstance(picture, TiffImageFile):
        return int(picture.tag_v2[IMAGEWIDTH]), int(picture.tag_v2[IMAGELENGTH])
    return picture.size


def _is_turned(picture: Image.Image) -> bool:
    """Whether EXIF says that rows and columns change places."""
    return picture.getexif().get(EXIF_ORIENTATION, 1) in QUARTER_TURNS


def _require_pixels(picture: Image.Image, path: Path | str) -> None:
    if min(picture.size) < 1:
        raise UnreadableImageError(path, f"it is {picture.size[0]} x {picture.size[1]} pixels")


def _rgb(picture: Image.Image, path: Path | str) -> np.ndarray:
    """A writable H x W x 3 uint8 array."""
    if picture.mode.startswith("I"):
        return _rgb_from_16_bits(picture, path)
    if picture.mode == "F":
        raise UnreadableImageError(path, "its pixels are 32-bit floats; convert it to 8 or 16 bits")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return _over_black(picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


def _rgb_from_16_bits(picture: Image.Image, path: Path | str) -> np.ndarray:
    values = np.array(picture)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(path, "its values leave 0..65535; convert it to 8 or 16 bits")
    gray = np.round(values.astype(np.float32) / 257).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _over_black(picture: Image.Image) -> np.ndarray:
    values = np.array(picture)
    opacity = values[:, :, 3:].astype(np.uint16)
    return ((values[:, :, :3] * opacity + 127) // 255).astype(np.uint8)


def _too_large(error: Exception) -> str:
    return f"{error}; cut it into tiles first, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"


def _reason(path: Path | str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    file = Path(path)
    if file.is_file() and file.stat().st_size == 0:
        return "the file is empty (zero bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture in a known format"
    return str(error) or type(error).__name__
