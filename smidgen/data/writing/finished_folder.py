"""A folder that is there complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smidgen.data.image_files import shown


@contextmanager
def finished_folder(out: Path) -> Iterator[Path]:
    """A folder to fill beside `out`, which takes that name when the block ends well and vanishes when it does not.

    Errors: ValueError where `out` holds something already.
    """
    require_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        unfinished.mkdir()
        yield unfinished
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_free(out: Path) -> None:
    """ValueError where `out` holds something already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"expected a new or empty folder to write to, got {shown(out)}; remove it or choose another OUT"
        )
