"""What the header of a TIFF says about how its pixels are to be shown, without decoding any."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

_ORIENTATION, _UPRIGHT = 274, 1
# White is zero, CMYK and Lab are shown right by Pillow alone.
_SHOWN_AS_STORED = (1, 2, 3, 6)  # black is zero, RGB, palette, YCbCr


@dataclass(frozen=True, slots=True)
class TiffTags:
    """orientation: EXIF's, 1 = as stored. photometric: TIFF's number of the color model."""

    orientation: int
    photometric: int

    @property
    def is_plain(self) -> bool:
        """Whether the stored values are gray, RGB or a palette's, and upright."""
        return self.orientation == _UPRIGHT and self.photometric in _SHOWN_AS_STORED


def describe_tiff(path: Path) -> TiffTags:
    """The tags of the first picture; those of a plain one where Pillow does not know its kind of bands."""
    try:
        # Not Image.open, which refuses the size of what is never decoded here.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of damaged tags: who reads the pixels says what is wrong
            tags = TiffImageFile(file).tag_v2
            return TiffTags(int(tags.get(_ORIENTATION, _UPRIGHT)), int(tags.get(PHOTOMETRIC_INTERPRETATION, 1)))
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, EOFError, struct.error):
        return TiffTags(_UPRIGHT, 1)
