"""Notes about images and frames on stderr: the first ones whole, and how many more there were."""

from __future__ import annotations

from smidgen.cli.output import say

NOTES_SAID = 20


class Notes:
    """Says notes while the block runs. Of a million images nobody reads a line each."""

    def __init__(self, most: int = NOTES_SAID) -> None:
        self._most, self._count = most, 0

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._count > self._most:
            say(f"{self._count - self._most} more notes like these are not shown")

    def say(self, note: str) -> None:
        """One note more."""
        self._count += 1
        if self._count <= self._most:
            say(note)
