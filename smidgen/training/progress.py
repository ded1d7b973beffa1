"""How far the training is: a bar on a terminal, a line every few seconds elsewhere, nothing from helper processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0


class Display(Protocol):
    """Shows steps as they are done, and says things in between."""

    def advance(self, step: int, status: str) -> None:
        """Step `step` (counted from 1) is done; `status` is a few words on the loss and the memory."""

    def say(self, text: str) -> None:
        """Print text for a person."""


@contextlib.contextmanager
def open_display(total: int, done: int, enabled: bool, console: Console | None = None) -> Iterator[Display]:
    """The display that fits where standard error goes. total: steps of the training; done: those of earlier parts."""
    console = console or Console(stderr=True)
    if not enabled:
        yield SilentDisplay()
    elif console.is_terminal:
        with _bar(console) as bar:
            yield BarDisplay(bar, total, done)
    else:
        yield LineDisplay(console, total, done)


@final
class SilentDisplay:
    """Says nothing."""

    def advance(self, step: int, status: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


@final
class BarDisplay:
    """A bar with steps, remaining time and status."""

    def __init__(self, bar: Progress, total: int, done: int) -> None:
        self._bar = bar
        self._task = bar.add_task("training", total=total, completed=done, status="")

    def advance(self, step: int, status: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step, status=status)

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)


@final
class LineDisplay:
    """A plain line when some seconds have passed since the last, and for the last step."""

    def __init__(self, console: Console, total: int, done: int, seconds_between: float = SECONDS_BETWEEN_LINES) -> None:
        self._console = console
        self._total = total
        self._done = done
        self._seconds_between = seconds_between
        self._started = time.monotonic()
        self._spoke = float("-inf")

    def advance(self, step: int, status: str) -> None:
        """Print a line where one is due."""
        now = time.monotonic()
        if step < self._total and now - self._spoke < self._seconds_between:
            return
        self._spoke = now
        left = (now - self._started) / max(step - self._done, 1) * (self._total - step)
        self.say(f"step {step}/{self._total}, {timedelta(seconds=round(left))} left, {status}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def step_status(epoch: int, loss: float, gigabytes: float, waiting_share: float) -> str:
    """A few words on a step. waiting_share: of the time, spent on waiting for batches; a large one asks for workers."""
    return f"epoch {epoch}, loss {loss:.4g}, {gigabytes:.2f} GB, waited {waiting_share:.0%} for data"


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    return Progress(*columns, console=console)
