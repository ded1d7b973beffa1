"""A folder on this disk or in an object store, where a file is either absent or complete.

On a disk a file gets a temporary name and is renamed; an object appears in its store when all of it has arrived.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec  # type: ignore[import-untyped]

from smidgen.checkpoints.atomic_write import failures_explained

_PARTIAL = ".partial-"


@dataclass(frozen=True, slots=True)
class Storage:
    """A folder: on this disk where `filesystem` is None, else at the path `root` of an fsspec file system."""

    root: str
    filesystem: Any = None

    def read(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        if self.filesystem is None:
            return Path(self.root, name).read_bytes()
        content: bytes = self.filesystem.cat_file(self._path(name))
        return content

    def write(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Put a file in its place at once, over an earlier one. Raises OSError.

        durable: it shall survive a power failure, not only the end of the process; that takes the disk its time.
        """
        if self.filesystem is None:
            _write_to_disk(Path(self.root, name), content, durable)
        else:
            self.filesystem.pipe_file(self._path(name), content)

    def has(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return name.rpartition("/")[2] in self.names(name.rpartition("/")[0])

    def names(self, folder: str = "") -> set[str]:
        """Names in a folder of this one, none where there is no such folder; unfinished files are left out."""
        try:
            if self.filesystem is None:
                found = {entry.name for entry in os.scandir(Path(self.root, folder))}
            else:
                self.filesystem.invalidate_cache()
                found = {Path(path).name for path in self.filesystem.ls(self._path(folder), detail=False)}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {name for name in found if not name.startswith(".")}

    def remove(self, name: str) -> None:
        """Delete a file that may be gone already."""
        try:
            if self.filesystem is None:
                Path(self.root, name).unlink()
            else:
                self.filesystem.rm_file(self._path(name))
        except FileNotFoundError:
            pass

    def sweep(self, folder: str) -> None:
        """Delete what killed processes left unfinished in a folder; nobody may be writing there."""
        if self.filesystem is None:
            for partial in Path(self.root, folder).glob(f"{_PARTIAL}*"):
                partial.unlink(missing_ok=True)

    def shown(self, name: str = "") -> str:
        """Where a file is, for people."""
        path = self._path(name).rstrip("/")
        return path if self.filesystem is None else str(self.filesystem.unstrip_protocol(path))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """The folder at a path or URL; it need not exist. Raises ValueError for a URL whose file system is missing."""
    name = os.fspath(place)
    if not is_url(name):
        return Storage(os.path.abspath(name))  # noqa: PTH100  Path would resolve no "..", and workers start elsewhere
    filesystem, root = split_url(name)
    return Storage(os.path.abspath(root)) if _is_local(filesystem) else Storage(root.rstrip("/"), filesystem)  # noqa: PTH100


def is_url(name: str) -> bool:
    """Whether a name says its file system: memory://, s3://, gs://, file:// and the others that fsspec knows."""
    return "://" in name


def split_url(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises ValueError where fsspec does not have that file system."""
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(f"expected a URL that fsspec can open here, got {url}: {error}") from error
    return filesystem, str(path)


def _is_local(filesystem: Any) -> bool:
    return "file" in filesystem.protocol


def _write_to_disk(path: Path, content: bytes, durable: bool) -> None:
    # A name of its own: should two processes ever write the same file, neither sees the other's half.
    partial = path.with_name(f"{_PARTIAL}{uuid4().hex}-{path.name}")
    with failures_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
