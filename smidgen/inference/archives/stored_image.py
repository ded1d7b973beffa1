"""An image in an object store, copied to a temporary file while its windows are read.

Windows of a store's object would be many small requests for each tile, and only some formats have windows; a copy costs
the transfer once. What lies in $TMPDIR is one image at a time for each worker.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from smidgen.data import UnreadableImageError
from smidgen.data.windows import PixelRules, WindowReader, open_windows
from smidgen.inference.archives.storage import split_url


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An object by its URL."""

    url: str

    @property
    def name(self) -> str:
        """Its URL."""
        return self.url

    @contextmanager
    def open(self, rules: PixelRules, most_bytes: int) -> Iterator[WindowReader]:
        """Its windows. Raises UnreadableImageError that names the URL; OSError where the disk is full."""
        with TemporaryDirectory(prefix="smidgen-") as folder:
            copy = Path(folder, "image")
            _fetch(self.url, copy)
            try:
                with open_windows(copy, rules, most_bytes) as reader:
                    yield reader
            except UnreadableImageError as error:
                raise UnreadableImageError(self.url, error.reason) from error


def _fetch(url: str, copy: Path) -> None:
    filesystem, path = split_url(url)
    try:
        filesystem.get_file(path, str(copy))
    except Exception as error:  # object stores have errors of their own, and one object must not end the archive
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise UnreadableImageError(url, str(error) or type(error).__name__) from error
