"""The files of an archive, listed once: by paths, folders and patterns on this disk and in object stores."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from glob import has_magic
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]

from smidgen.data import UnreadableImageError, read_image
from smidgen.data.image_files import IMAGE_SUFFIXES
from smidgen.inference.archives.storage import is_url, split_url
from smidgen.inference.archives.stored_image import StoredImage
from smidgen.inference.loaded_images import LoadedImage
from smidgen.inference.sources import Source, image_files
from smidgen.inference.tiling.window_sources import ImageFile, WindowSource


def listed(sources: Source | Iterable[Source]) -> tuple[str, ...]:
    """The sources with absolute paths, which mean the same in every process and on every start."""
    several = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    names = [os.fspath(source) for source in several]
    return tuple(name if is_url(name) else str(Path(name).absolute()) for name in names)


def archive_files(sources: Iterable[str]) -> Iterator[str]:
    """Absolute paths and URLs of all images, in the order of the sources and by name inside each folder, each once.

    Raises FileNotFoundError for a source that is not there, ValueError for a URL that cannot be opened here.
    """
    seen: set[str] = set()
    for source in sources:
        for file in _files_in_store(source) if is_url(source) else map(str, image_files(source)):
            if file not in seen:
                seen.add(file)
                yield file


def load_image(file: str) -> LoadedImage:
    """The pixels of a file or object. Raises UnreadableImageError."""
    if not is_url(file):
        return LoadedImage(file, read_image(file))
    try:
        with fsspec.open(file, "rb") as stream:
            content = stream.read()
    except Exception as error:  # object stores have errors of their own, and one object must not end the archive
        raise UnreadableImageError(file, str(error) or type(error).__name__) from error
    return LoadedImage(file, read_image(file, content=io.BytesIO(content)))


def window_source(file: str) -> WindowSource:
    """A file or object, to be read in windows."""
    return StoredImage(file) if is_url(file) else ImageFile(Path(file))


def _files_in_store(url: str) -> Iterator[str]:
    filesystem, path = split_url(url)
    found = _matches(filesystem, path)
    if found is None:
        raise FileNotFoundError(f"expected an image, a folder or a pattern, but {url} does not exist")
    return (str(filesystem.unstrip_protocol(file)) for file in found)


def _matches(filesystem: Any, path: str) -> list[str] | None:
    """Paths of a pattern's or folder's images, or of a single file; None where there is nothing at all."""
    if has_magic(path):
        return [file for file in sorted(filesystem.glob(path)) if _is_image(file)]
    if filesystem.isfile(path):
        return [path]
    if filesystem.isdir(path):
        return [file for file in sorted(filesystem.find(path)) if _is_image(file)]
    return None


def _is_image(path: str) -> bool:
    name = Path(path)
    return name.suffix.lower() in IMAGE_SUFFIXES and not name.name.startswith(".")
