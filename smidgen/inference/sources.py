"""Image files named by files, folders and glob patterns, found one at a time so that an archive never fills memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from glob import has_magic, iglob
from pathlib import Path

from smidgen.data.image_files import IMAGE_SUFFIXES, shown

Source = str | os.PathLike[str]


def image_files(sources: Source | Iterable[Source]) -> Iterator[Path]:
    """Files of all sources, in the order of the sources and by name inside each folder.

    A folder gives every image below it (by suffix); a pattern (`*`, `?`, `[...]`, `**`) what it matches; a file is
    taken whatever its suffix. Only the names of the folder being walked are held in memory. Raises FileNotFoundError
    before anything is read when a source that is no pattern does not exist.
    """
    listed = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    paths = [Path(source) for source in listed]
    for path in paths:
        if not path.exists() and not has_magic(str(path)):
            raise FileNotFoundError(f"expected an image, a folder or a glob pattern, but {shown(path)} does not exist")
    return (file for path in paths for file in _files_of(path))


def common_root(sources: Sequence[Source]) -> Path:
    """The deepest folder that holds every source; names relative to it tell equal base names apart."""
    return Path(os.path.commonpath([_fixed_folder(Path(source)).absolute() for source in sources]))


def _files_of(path: Path) -> Iterator[Path]:
    if path.is_dir():
        return _walk(path)
    if path.exists():
        return iter((path,))
    # glob.iglob, unlike Path.glob, takes absolute patterns.
    return (Path(match) for match in iglob(str(path), recursive=True) if _is_image(match))  # noqa: PTH207


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _walk(path)
        elif _is_image(path):
            yield path


def _is_image(path: Source) -> bool:
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _fixed_folder(path: Path) -> Path:
    """The part of a source before its first pattern, a folder."""
    if path.is_dir():
        return path
    if path.exists():
        return path.parent
    parts = path.parts
    fixed = next((index for index, part in enumerate(parts) if has_magic(part)), len(parts) - 1)
    return Path(*parts[:fixed])
