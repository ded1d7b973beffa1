"""Windows of an image file, read one at a time without decoding the rest where the format allows it.

- TIFF of any kind and JPEG 2000: through rasterio, where it is installed (`pip install 'smidgen[geo]'`).
- Uncompressed gray and RGB TIFF, tiled or in strips: through Pillow, with nothing else.
- Everything else (PNG, JPEG, WebP ...; compressed TIFF without rasterio) is decoded whole, if memory allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from jaxtyping import UInt8
from torch import Tensor

from smidgen.data.geometry import resize_pixels
from smidgen.data.image_files import UnreadableImageError, read_image, read_size_hw

WindowXYXY = tuple[int, int, int, int]

BYTES_OF_A_WHOLE_PIXEL = 7
"""While it is decoded, a pixel stands in Pillow's image (4 bytes) and in the array that is made of it (3)."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelRules:
    """How the bands of a raster become RGB. bands: numbers of those to show as red, green and blue, from 1 (None: those
    that say so, else the first three, else the first). value_range: what becomes 0 and 255 (None: the whole range of 8
    and 16 bits; other types need it). What is no data or transparent becomes black.
    """

    bands: tuple[int, int, int] | None = None
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and min(self.bands) < 1:
            raise ValueError(f"expected band numbers from 1, got {self.bands}; change --bands")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"expected a lower and a higher value, got {self.value_range}; change --value-range")


class WindowReader(Protocol):
    """An opened image. Both raise UnreadableImageError."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        ...

    def read(self, window_xyxy: WindowXYXY) -> UInt8[Tensor, "3 h w"] | None:
        """The pixels of a window inside the image; None where it holds no data at all."""
        ...

    def reduced(self, size_hw: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
        """The whole image at this size."""
        ...


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image that is in memory."""

    pixels: UInt8[Tensor, "3 H W"]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])

    def read(self, window_xyxy: WindowXYXY) -> UInt8[Tensor, "3 h w"]:
        """A view of the pixels of a window."""
        left, top, right, bottom = window_xyxy
        return self.pixels[:, top:bottom, left:right]

    def reduced(self, size_hw: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
        """The whole image at this size."""
        return resize_pixels(self.pixels, size_hw)


@contextmanager
def open_windows(path: Path, rules: PixelRules | None = None, most_bytes: int = 2**30) -> Iterator[WindowReader]:
    """The file, opened by what reads its windows best. most_bytes: what decoding it whole may take, where it must be.

    Raises UnreadableImageError.
    """
    rules = rules or PixelRules()
    from smidgen.inference.tiling.tiff_tags import describe_tiff
    from smidgen.inference.tiling.uncompressed_tiff import UncompressedTiff, is_readable_in_windows

    start = _first_bytes(path)
    tiff = describe_tiff(path) if start.startswith(_TIFF) else None
    if (start.startswith(_JPEG_2000) or (tiff is not None and tiff.is_plain)) and find_spec("rasterio") is not None:
        from smidgen.inference.tiling.raster_windows import open_raster

        with open_raster(path, rules) as raster:
            yield raster
    elif tiff is not None and is_readable_in_windows(path):
        with UncompressedTiff.open(path) as windows:
            yield windows
    else:
        yield decoded_whole(path, most_bytes, start.startswith((*_TIFF, *_JPEG_2000)))


def decoded_whole(path: Path, most_bytes: int, rasterio_helps: bool = False) -> DecodedImage:
    """The image in memory. Raises UnreadableImageError where that would take more than `most_bytes`."""
    hint = (
        "pip install 'smidgen[geo]' reads it in windows"
        if rasterio_helps
        else "save it as tiled TIFF, which is read in windows, or give more --memory"
    )
    try:
        height, width = read_size_hw(path)
    except UnreadableImageError as error:
        if "decompression bomb" not in error.reason:
            raise
        raise UnreadableImageError(path, f"it must be decoded whole, and is too large for that; {hint}") from error
    needed = height * width * BYTES_OF_A_WHOLE_PIXEL
    if needed > most_bytes:
        raise UnreadableImageError(
            path,
            f"its {width} x {height} px must be decoded whole, which takes {needed / 2**20:.0f} MiB of the "
            f"{most_bytes / 2**20:.0f} MiB that are left; {hint}",
        )
    return DecodedImage(read_image(path))


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise UnreadableImageError(path, error.strerror or str(error)) from error
