"""Windows of what must be decoded whole (PNG, JPEG ...), within a bound that is kept before the first pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from smidgen.data.geometry import resize_pixels
from smidgen.data.image_files import UnreadableImageError, read_image, read_size_hw
from smidgen.data.windows.window_reader import WindowXYXY

BYTES_OF_A_WHOLE_PIXEL = 7
"""While it is decoded, a pixel stands in Pillow's image (4 bytes) and in the array that is made of it (3)."""


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
