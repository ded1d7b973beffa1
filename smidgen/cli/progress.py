"""Progress of long work on stderr: a bar on a terminal, a line every few seconds where output is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from smidgen.cli.output import say

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """How much is done, said while the block runs. total: how much there is; None = unknown, as in an archive."""

    def __init__(self, description: str, total: int | None = None) -> None:
        self._description = description
        self._total = total
        self._bar = _bar() if sys.stderr.isatty() else None
        self._task = self._bar.add_task(description, total=total) if self._bar else None
        self._start = self._said = time.monotonic()

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def at(self, done: int) -> None:
        """So much is done by now."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            of = "" if self._total is None else f" of {self._total}"
            say(f"{self._description}: {done}{of}, {done / (self._said - self._start):.1f} per second")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items, while saying how far it is."""
    with Progress(description, total) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress.at(done)


def _bar() -> Bar:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Bar(*columns, console=Console(stderr=True), transient=True)
