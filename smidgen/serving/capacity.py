"""How much of something may be held at once (requests, bytes, images); who comes when it is full is sent away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from smidgen.serving.refusals import Refusal

RETRY_AFTER = {"Retry-After": "1"}


class Capacity:
    """At most `limit` of `what`; `held` says how much is taken. Used on the event loop's thread only."""

    def __init__(self, limit: float, what: str) -> None:
        self.limit, self.what = limit, what
        self.held = 0.0

    @contextmanager
    def share(self, amount: float = 0.0) -> Iterator[Share]:
        """A share of `amount` that may grow while the block runs and is given back at its end.

        Raises Refusal 429 where there is no room.
        """
        share = Share(self)
        try:
            share.grow(amount)
            yield share
        finally:
            self.held -= share.amount


class Share:
    """What one request holds of a capacity."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.amount = 0.0

    def grow(self, amount: float) -> None:
        """Hold so much more. Raises Refusal 429 where there is no room."""
        capacity = self._capacity
        if capacity.held + amount > capacity.limit:
            raise Refusal(429, f"the server is busy: no room for more {capacity.what}", "try again", RETRY_AFTER)
        capacity.held += amount
        self.amount += amount
