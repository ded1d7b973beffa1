"""Files and folders that are either the earlier version or the complete next one, whatever happens while writing.

The content goes to a temporary name beside its place, is flushed to the disk, and is renamed. A full disk, a crash or a
signal leaves the earlier version where it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and rename it to `path`; OSError, with the earlier file kept, on failure."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        with failures_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
            mode = partial.stat().st_mode
            write(partial)
            # safetensors makes files that only their owner may read; checkpoints are to be shared.
            partial.chmod(mode)
            _flush(partial)
            partial.replace(path)
            _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_folder_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder and put it at `path`; OSError, with the earlier folder kept, on failure."""
    partial = path.with_name(f".partial-{path.name}")
    recover_folder(path)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with failures_explained(path):
            partial.mkdir(parents=True)
            write(partial)
            _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Put back the earlier folder where a crash came between the two renames of `write_folder_atomically`."""
    earlier = _earlier(path)
    if earlier.exists() and not path.exists():
        earlier.rename(path)


def _replace_folder(ready: Path, path: Path) -> None:
    """Folders cannot be renamed over each other: the old one steps aside first, and goes when the new one stands."""
    earlier = _earlier(path)
    shutil.rmtree(earlier, ignore_errors=True)
    if path.exists():
        path.rename(earlier)
    ready.rename(path)
    _flush(path.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _earlier(path: Path) -> Path:
    return path.with_name(f".earlier-{path.name}")


def _flush(path: Path) -> None:
    """Ask the system to bring a file, or a folder's list of names, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows flushes no folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def failures_explained(path: Path) -> Iterator[None]:
    """Turn a failure to write into an OSError that says what is left and what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _error_number(error)
        if number is None:
            raise
        reason = os.strerror(number)
        advice = "free some space, or write to another disk" if number == errno.ENOSPC else "check the folder"
        raise OSError(
            number, f"could not write {path}: {reason}; what was there before is unchanged; {advice}"
        ) from error


def _error_number(error: OSError | SafetensorError) -> int | None:
    """The system's number of a failure; safetensors hides it in its message."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found.group(1)) if found else None
