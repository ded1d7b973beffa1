"""A folder that is there complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def finished_folder(out: Path) -> Iterator[Path]:
    """A folder to fill beside `out`, which takes that name when the block ends well and vanishes when it does not.

    Errors: ValueError where `out` holds something already or nothing can be written beside it.
    """
    require_free(out)
    out = out.resolve()  # "." has no name to write beside, and a link is no folder to replace
    unfinished = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        _make(unfinished)
        yield unfinished
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_free(out: Path, source: Path | None = None) -> None:
    """ValueError where `out` holds something already, or lies in the dataset `source` that is to be read."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"expected a new or empty folder to write to, got {out}; remove it or choose another OUT")
    if source is not None and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"expected a folder outside of the dataset {source}, got {out}, which would become a part of "
            "it; choose another OUT"
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write to {folder.parent}: {reason}; choose another OUT") from error
