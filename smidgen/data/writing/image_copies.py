"""Images of a written dataset: copied byte by byte or hard-linked, never encoded again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], None]


class ImageCopies:
    """Called with a file and where it shall be. link: hard links where the file system allows them, else copies.

    copied, linked: how many so far. progress: called with (images done, images in all).
    """

    def __init__(self, total: int, link: bool = False, progress: Progress | None = None) -> None:
        self.copied = 0
        self.linked = 0
        self._total = total
        self._link = link
        self._progress = progress

    def __call__(self, file: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if self._link and _linked(file, place):
            self.linked += 1
        else:
            shutil.copyfile(file, place)
            self.copied += 1
        if self._progress is not None:
            self._progress(self.copied + self.linked, self._total)


def _linked(file: Path, place: Path) -> bool:
    """False across file systems, on those without hard links, and for files of others where that is forbidden."""
    try:
        os.link(file.resolve(), place)
    except OSError:
        return False
    return True
