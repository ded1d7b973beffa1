"""Questions that arrive alone are answered together: the first waits a few milliseconds for others of its kind.

One thread computes, so that requests never compete for the network; the event loop stays free to talk. Only questions
of one kind share a batch: for images of equal canvas, no answer depends on who asked at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from smidgen.serving.refusals import Refusal

Question = TypeVar("Question")
Answer = TypeVar("Answer")

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting(Generic[Question, Answer]):
    question: Question
    kind: Hashable
    since: float
    answer: asyncio.Future[Answer]


class MicroBatcher(Generic[Question, Answer]):
    """compute: answers of up to `most` questions of one kind, in one thread. wait_s: how long the first waits for
    others. observe: told the size and the seconds of every batch.
    """

    def __init__(
        self,
        compute: Callable[[list[Question]], list[Answer]],
        kind: Callable[[Question], Hashable],
        *,
        most: int,
        wait_s: float,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._compute, self._kind, self._observe = compute, kind, observe
        self._most, self._wait_s = most, wait_s
        self._waiting: deque[_Waiting[Question, Answer]] = deque()
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "detector")
        self._worker: asyncio.Task[None] | None = None
        self._batch_began: float | None = None

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Let the batch that is being computed end, and answer no more."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        self._worker = None
        for one in self._waiting:
            one.answer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Questions that are not being answered yet."""
        return len(self._waiting)

    @property
    def busy_seconds(self) -> float:
        """How long the batch that is being computed has taken so far; 0 between batches."""
        return 0.0 if self._batch_began is None else time.monotonic() - self._batch_began

    async def ask(self, question: Question) -> Answer:
        """The answer, or whatever `compute` raised. A caller that gives up is not waited for.

        Raises Refusal 503 before `start` and after `stop`.
        """
        if self._worker is None:
            raise Refusal(503, "the server is stopping", "ask another one")
        loop = asyncio.get_running_loop()
        one = _Waiting(question, self._kind(question), loop.time(), loop.create_future())
        self._waiting.append(one)
        self._arrival.set()
        return await one.answer

    async def _work(self) -> None:
        while True:
            await self._arrival.wait()
            await self._gather()
            batch = self._take()
            if batch:
                await self._answer(batch)

    async def _gather(self) -> None:
        """Wait until the oldest question has enough company or has waited long enough."""
        loop = asyncio.get_running_loop()
        oldest = self._waiting[0]
        while sum(one.kind == oldest.kind for one in self._waiting) < self._most:
            left = oldest.since + self._wait_s - loop.time()
            if left <= 0:
                return
            self._arrival.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrival.wait(), left)

    def _take(self) -> list[_Waiting[Question, Answer]]:
        """The oldest question and those of its kind, as many as fit; those that nobody waits for are dropped."""
        wanted = [one for one in self._waiting if not one.answer.done()]
        batch = [one for one in wanted if one.kind == wanted[0].kind][: self._most]
        chosen = {id(one) for one in batch}
        self._waiting = deque(one for one in wanted if id(one) not in chosen)
        if not self._waiting:
            self._arrival.clear()
        else:
            self._arrival.set()
        return batch

    async def _answer(self, batch: list[_Waiting[Question, Answer]]) -> None:
        """Answer a batch; where it fails, each question alone, so that none pays for its neighbor."""
        try:
            answers = await self._computed([one.question for one in batch])
        except Exception as error:
            if len(batch) > 1:
                _LOGGER.warning("a batch of %d failed (%s); its images are tried one by one", len(batch), error)
                for one in batch:
                    await self._answer([one])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    async def _computed(self, questions: list[Question]) -> list[Answer]:
        self._batch_began = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, questions)
        finally:
            self._observe(len(questions), time.monotonic() - self._batch_began)
            self._batch_began = None
