"""Ctrl-C and SIGTERM as a request: finish the step, save, and say so; a second signal ends at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):  # noqa: N818  a request that was honored, not an error
    """Training was asked to stop and has saved; the same command with --resume goes on.

    run: the run folder. step: steps done.
    """

    def __init__(self, run: Path, step: int) -> None:
        super().__init__(f"interrupted after step {step}; saved in {run / 'last'}; continue with --resume")
        self.run = run
        self.step = step


class StopRequest:
    """While entered, the first SIGINT or SIGTERM sets `requested`; the second raises KeyboardInterrupt.

    Only a program's main thread may listen to signals; elsewhere nothing is requested and nothing changes.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def honored_at_once(self) -> Iterator[None]:
        """Inside, even the first signal raises KeyboardInterrupt: for work that can simply be done again."""
        self._at_once = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        repeated, self.requested = self.requested, True
        if repeated or self._at_once:
            raise KeyboardInterrupt
