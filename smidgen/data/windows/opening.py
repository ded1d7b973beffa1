"""Which reader reads the windows of a file best: decided by its first bytes and its header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

from smidgen.data.image_files import UnreadableImageError
from smidgen.data.windows.decoded_image import decoded_whole
from smidgen.data.windows.pixel_rules import PixelRules
from smidgen.data.windows.raster_windows import open_raster
from smidgen.data.windows.tiff_tags import describe_tiff
from smidgen.data.windows.uncompressed_tiff import UncompressedTiff, is_readable_in_windows
from smidgen.data.windows.window_reader import WindowReader

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


@contextmanager
def open_windows(path: Path, rules: PixelRules | None = None, most_bytes: int = 2**30) -> Iterator[WindowReader]:
    """The file, opened by what reads its windows best. most_bytes: what decoding it whole may take, where it must be.

    Raises UnreadableImageError.
    """
    opened = open_in_parts(path, rules)
    if opened is None:
        yield decoded_whole(path, most_bytes, rasterio_helps=_first_bytes(path).startswith((*_TIFF, *_JPEG_2000)))
    else:
        with opened as windows:
            yield windows


def open_in_parts(path: Path, rules: PixelRules | None = None) -> AbstractContextManager[WindowReader] | None:
    """What decodes no more of the file than a window touches; None where no reader does. Raises UnreadableImageError,
    here or when it is entered.
    """
    start = _first_bytes(path)
    tiff = describe_tiff(path) if start.startswith(_TIFF) else None
    if (start.startswith(_JPEG_2000) or (tiff is not None and tiff.is_plain)) and find_spec("rasterio") is not None:
        return open_raster(path, rules or PixelRules())
    if rules is not None and rules != PixelRules():
        reason = "--bands and --value-range are for TIFF and JPEG 2000 that rasterio reads (extra geo); leave them out"
        raise UnreadableImageError(path, reason)
    if tiff is not None and is_readable_in_windows(path):
        return UncompressedTiff.open(path)
    return None


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise UnreadableImageError(path, error.strerror or str(error)) from error
