"""Windows of an uncompressed gray or RGB TIFF: the tiles or strips that a window touches are read, and no others.

Pillow decodes a file when its first pixel is asked for, all of it (`Image.crop` included). But for uncompressed files
it lists where each tile or strip lies in the file and how its bytes become pixels; that list is all one needs.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PLANAR_CONFIGURATION, TiffImageFile
from torch import Tensor

from smidgen.data.geometry import resize_pixels
from smidgen.data.image_files import UnreadableImageError
from smidgen.data.windows.window_reader import WindowXYXY

_MODES = ("L", "RGB")
_ROWS_AT_A_TIME = 512


def is_readable_in_windows(path: Path) -> bool:
    """Whether the file is an upright, uncompressed, 8-bit gray or RGB TIFF."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of damaged tags: who reads the pixels says what is wrong
            return _is_simple(TiffImageFile(file))
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, EOFError, struct.error):
        return False


def _is_simple(picture: Any) -> bool:
    tags = picture.tag_v2
    return (
        picture.mode in _MODES
        and set(tags.get(BITSPERSAMPLE, (1,))) == {8}
        and tags.get(PLANAR_CONFIGURATION, 1) == 1
        and tags.get(274, 1) == 1
        and all(tile.codec_name == "raw" for tile in picture.tile)
    )


@dataclass(frozen=True, slots=True)
class UncompressedTiff:
    """An open file and where its tiles or strips lie: corners in pixels, offset in bytes, bytes per row."""

    path: Path
    file: BinaryIO
    size_hw: tuple[int, int]
    mode: str
    places_xyxy: np.ndarray
    offsets: np.ndarray
    row_bytes: np.ndarray
    raw_mode: str

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[UncompressedTiff]:
        """The file, if `is_readable_in_windows` says so."""
        with path.open("rb") as file:
            picture: Any = TiffImageFile(file)
            samples = len(picture.tag_v2.get(BITSPERSAMPLE, (8,)))  # of a byte each
            places = np.array([tile.extents for tile in picture.tile], dtype=np.int64)
            strides = np.array([tile.args[1] for tile in picture.tile], dtype=np.int64)
            yield cls(
                path,
                file,
                (picture.height, picture.width),
                picture.mode,
                places,
                np.array([tile.offset for tile in picture.tile], dtype=np.int64),
                np.where(strides > 0, strides, (places[:, 2] - places[:, 0]) * samples),
                picture.tile[0].args[0],
            )

    def read(self, window_xyxy: WindowXYXY) -> UInt8[Tensor, "3 h w"]:
        """The pixels of a window inside the image."""
        left, top, right, bottom = window_xyxy
        picture = Image.new(self.mode, (right - left, bottom - top))
        places = self.places_xyxy
        touched = (places[:, 0] < right) & (places[:, 2] > left) & (places[:, 1] < bottom) & (places[:, 3] > top)
        for index in np.flatnonzero(touched).tolist():
            first, last = max(top, int(places[index, 1])), min(bottom, int(places[index, 3]))
            picture.paste(self._rows(index, first, last), (int(places[index, 0]) - left, first - top))
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    def reduced(self, size_hw: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
        """The whole image at this size, from bands of rows that are averaged one after the other."""
        height, width = self.size_hw
        rows, columns = size_hw
        bands = []
        step = max(1, _ROWS_AT_A_TIME * rows // height)
        for first in range(0, rows, step):
            last = min(first + step, rows)
            top, bottom = first * height // rows, max(last * height // rows, first * height // rows + 1)
            bands.append(resize_pixels(self.read((0, top, width, bottom)), (last - first, columns)))
        return torch.cat(bands, dim=1)

    def _rows(self, index: int, first: int, last: int) -> Image.Image:
        """Rows of the image [first, last) of one tile or strip."""
        left, top, right, _ = self.places_xyxy[index].tolist()
        per_row = int(self.row_bytes[index])
        begin, length = int(self.offsets[index]) + (first - top) * per_row, (last - first) * per_row
        if begin + length > os.fstat(self.file.fileno()).st_size:  # before memory is asked for: headers can be damaged
            raise UnreadableImageError(self.path, "the file ends before its last pixels; it is truncated")
        self.file.seek(begin)
        content = self.file.read(length)
        return Image.frombytes(self.mode, (right - left, last - first), content, "raw", self.raw_mode, per_row, 1)
