"""Pictures that are the frames of a film: named by a number (frame_%05d.png) or by a glob pattern, in that order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import iglob
from pathlib import Path

from smidgen.data import UnreadableImageError, read_image
from smidgen.data.image_files import shown
from smidgen.inference.video.frames import BrokenFrame, Frame

_NUMBER = re.compile(r"%0?\d*d")


def is_numbered(pattern: str) -> bool:
    """Whether a name holds a place for a number, as printf writes it, and is no file itself."""
    return bool(_NUMBER.search(Path(pattern).name)) and not Path(pattern).exists()


def numbered_files(pattern: str) -> list[Path]:
    """Files of a printf pattern by their number, or of a glob pattern by digits in their names.

    Raises FileNotFoundError where there are none.
    """
    if is_numbered(pattern):
        files = _printed(Path(pattern))
    else:
        found = map(Path, iglob(pattern, recursive=True))  # noqa: PTH207  Path.glob takes no absolute patterns
        files = sorted(
            found, key=lambda file: [(int(part), "") for part in re.findall(r"\d+", file.name)] + [(0, file.name)]
        )
    if not files:
        raise FileNotFoundError(f"expected pictures named {shown(pattern)}, found none")
    return files


def numbered_frames(pattern: str, frames_per_second: float, every: int = 1) -> Iterator[Frame | BrokenFrame]:
    """The pictures as frames, one in memory at a time. Raises FileNotFoundError where there are none."""
    for index, file in enumerate(numbered_files(pattern)):
        if index % every:
            continue
        seconds = index / frames_per_second
        try:
            yield Frame(index, seconds, read_image(file))
        except UnreadableImageError as error:
            yield BrokenFrame(index, seconds, f"{file.name}: {error.reason}")


def _printed(pattern: Path) -> list[Path]:
    before, after = _NUMBER.split(pattern.name, maxsplit=1)
    named = re.compile(f"{re.escape(before)}(\\d+){re.escape(after)}")
    if not pattern.parent.is_dir():
        return []
    matches = [(named.fullmatch(file.name), file) for file in pattern.parent.iterdir()]
    return [file for _, file in sorted((int(match[1]), file) for match, file in matches if match)]
