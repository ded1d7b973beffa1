"""What happens between a request's bytes and its answer, with the bounds of each step."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from smidgen.inference import prediction_record
from smidgen.serving.bookkeeping import Bookkeeping
from smidgen.serving.capacity import Capacity
from smidgen.serving.decoding import decode
from smidgen.serving.detecting import Answer, Detecting, Question
from smidgen.serving.limits import MEBIBYTE, Limits
from smidgen.serving.metrics import Gauge, Metric
from smidgen.serving.micro_batching import MicroBatcher
from smidgen.serving.pictures_sent import Sent, pictures_sent
from smidgen.serving.refusals import Refusal
from smidgen.serving.remote_pictures import fetch
from smidgen.serving.request_body import read_body

if TYPE_CHECKING:
    from starlette.requests import Request

Result = TypeVar("Result")

DECODING_THREADS = 2
FETCHING_THREADS = 4
PACE_MARGIN = 0.5  # of the seconds that an answer may take; the pace of other programs may change meanwhile
WARM_UP_PX = 512
HANGS_AFTER = 2.0  # times the seconds that an answer may take


class Answering:
    """The server's state: a detector, its queue, what is held, and its books."""

    def __init__(self, model: nn.Module, device: str, limits: Limits, *, allow_urls: bool = False) -> None:
        self.limits, self.allow_urls = limits, allow_urls
        self._info = (("model", str(getattr(model, "name", type(model).__name__))), ("device", device))
        self.books = Bookkeeping(self._info)
        self._detecting = Detecting(model, device)
        self._batcher: MicroBatcher[Question, Answer] = MicroBatcher(
            self._detecting,
            self._detecting.canvas,
            most=limits.batch,
            wait_s=limits.wait_ms / 1000,
            observe=self.books.batch_done,
        )
        self._decoding = ThreadPoolExecutor(DECODING_THREADS, "decoding")
        self._fetching = ThreadPoolExecutor(FETCHING_THREADS, "fetching")
        self._requests = Capacity(limits.requests, "requests")
        self._images = Capacity(limits.images, "images")
        self._bytes = Capacity(limits.bodies_mib * MEBIBYTE, "bytes of bodies")
        self._began = time.monotonic()

    def warm_up(self) -> None:
        """Look at a gray image before anybody asks: what is made at first use is there, and the pace is known.

        Without a pace, nobody is told that the answer would come too late: a crowd before a new server is let in whole.
        """
        gray = torch.full((3, WARM_UP_PX, WARM_UP_PX), 128, dtype=torch.uint8)
        began = time.monotonic()
        self._detecting([self._detecting.question(gray)])
        self.books.learn_pace(1, time.monotonic() - began)

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._batcher.start()

    async def stop(self) -> None:
        """Answer no more, and let go of the threads."""
        await self._batcher.stop()
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request, score: float, max_detections: int, salience: bool) -> dict[str, Any]:
        """The answer to a request for detections. Raises Refusal."""
        with self._requests.share(1):
            answers = await self._answers(request)
        self.books.images.add(len(answers))
        return {"images": [_record(answer, score, max_detections, salience) for answer in answers]}

    async def _answers(self, request: Request) -> list[Answer]:
        with self._bytes.share() as held, self._images.share() as room:
            body = await read_body(request, self.limits, held)
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    sent = await self._off_the_loop(pictures_sent, body, _content_type(request), self.limits)
                    room.grow(len(sent))
                    self._require_time(room.amount)
                    return await _all_or_none([self._one(picture) for picture in sent])
            except TimeoutError:
                error = f"no answer within {self.limits.answer_seconds:g} s"
                raise Refusal(504, error, "try again, or send fewer images") from None

    def _require_time(self, own: float) -> None:
        """Send away at once who would wait for nothing: by the pace so far, the images ahead take too long."""
        ahead = self._images.held - own
        seconds, enough = (ahead + own) * self.books.image_seconds, PACE_MARGIN * self.limits.answer_seconds
        if ahead > 0 and seconds > enough:
            later = {"Retry-After": str(math.ceil(seconds - enough))}
            raise Refusal(429, f"the server is busy: {ahead:.0f} images are before this one", "try again", later)

    async def _one(self, picture: Sent) -> Answer:
        if picture.url is not None:
            picture = await self._fetched(picture.url)
        question = await self._off_the_loop(self._question, picture)
        try:
            return await self._batcher.ask(question)
        except MemoryError as error:
            raise Refusal(503, "out of memory", "send smaller images") from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            raise Refusal(503, "the device is out of memory", "send smaller images") from error

    def _question(self, picture: Sent) -> Question:
        return self._detecting.question(decode(picture.content, picture.file, self.limits), picture.file)

    async def _fetched(self, url: str) -> Sent:
        if not self.allow_urls:
            raise Refusal(403, "this server fetches no addresses", "send the image itself, or start with --allow-urls")
        return Sent(url, await self._in(self._fetching, fetch, url, self.limits))

    async def _off_the_loop(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await self._in(self._decoding, work, *arguments)

    async def _in(self, pool: Executor, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    def health(self) -> dict[str, Any]:
        """{"status": "ok" or "hangs", "model", "device", "queue", "seconds"}."""
        hangs = self._batcher.busy_seconds > HANGS_AFTER * self.limits.answer_seconds
        alive = round(time.monotonic() - self._began, 1)
        return {
            "status": "hangs" if hangs else "ok", **dict(self._info), "queue": self._batcher.waiting, "seconds": alive
        }  # fmt: skip

    def metrics(self) -> list[Metric]:
        """Everything that is counted, and what is held at the moment."""
        return self.books.metrics(
            Gauge("smidgen_queue_images", "Images that wait for the network.", lambda: self._batcher.waiting),
            Gauge("smidgen_images_in_progress", "Images accepted and not answered yet.", lambda: self._images.held),
            Gauge("smidgen_requests_in_progress", "Requests for detections at once.", lambda: self._requests.held),
            Gauge("smidgen_body_bytes", "Bytes of bodies that are held.", lambda: self._bytes.held),
        )


async def _all_or_none(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results, or the first failure, which ends the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _record(answer: Answer, score: float, max_detections: int, salience: bool) -> dict[str, Any]:
    """One image as in predictions.json, its size, and (if asked) where the detector looked."""
    found = answer.detections.above(score)[:max_detections]
    height, width = found.image_hw
    record = prediction_record(found) | {"width": width, "height": height}
    if salience:
        record["salience"] = None if answer.salience is None else answer.salience.to_json()
    return record


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "")
