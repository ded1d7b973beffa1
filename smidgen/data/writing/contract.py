"""What a file of this folder is to `write_dataset`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from smidgen.data.dataset import DetectionDataset
from smidgen.data.writing.shortfalls import Shortfall

# Puts an image file at a place.
AddImage = Callable[[Path, Path], None]


class Format(Protocol):
    """MAKES: the files it makes, in words. write: fills the folder, says what the format could not hold."""

    MAKES: str

    def write(self, splits: Sequence[DetectionDataset], out: Path, add_image: AddImage) -> list[Shortfall]: ...
