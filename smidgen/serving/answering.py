"""What happens between a request's bytes and its answer, with the bounds of each step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import psutil  # type: ignore[import-untyped]
from torch import nn

from smidgen.inference import prediction_record
from smidgen.serving.capacity import Capacity
from smidgen.serving.decoding import decode
from smidgen.serving.detecting import Answer, Detecting, Question
from smidgen.serving.limits import MEBIBYTE, Limits
from smidgen.serving.metrics import BATCHES, SECONDS, Counter, Gauge, Histogram, Metric
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
HANGS_AFTER = 2.0  # times the seconds that an answer may take


class Answering:
    """The server's state: a detector, its queue, what is held, and what has been counted."""

    def __init__(self, model: nn.Module, device: str, limits: Limits, *, allow_urls: bool = False) -> None:
        self.limits, self.allow_urls = limits, allow_urls
        self._detecting = Detecting(model, device)
        self._batcher: MicroBatcher[Question, Answer] = MicroBatcher(
            self._detecting,
            self._detecting.canvas,
            most=limits.batch,
            wait_s=limits.wait_ms / 1000,
            observe=self._batch_done,
        )
        self._decoding = ThreadPoolExecutor(DECODING_THREADS, "decoding")
        self._fetching = ThreadPoolExecutor(FETCHING_THREADS, "fetching")
        self._requests = Capacity(limits.requests, "requests")
        self._images = Capacity(limits.images, "images")
        self._bytes = Capacity(limits.bodies_mib * MEBIBYTE, "bytes of bodies")
        self._began = time.monotonic()
        self.answered_images = Counter("smidgen_images_total", "Images answered.")
        self.answers = Counter("smidgen_requests_total", "Requests by path and status.", ("path", "status"))
        self._seconds = Histogram(
            "smidgen_request_seconds", "Seconds from a request to its answer (/predict).", SECONDS
        )
        self._batch_seconds = Histogram("smidgen_inference_seconds", "Seconds of a batch in the network.", SECONDS)
        self._batch_sizes = Histogram("smidgen_batch_images", "Images of a batch.", BATCHES)
        self._info = (("model", str(getattr(model, "name", type(model).__name__))), ("device", device))

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
        self.answered_images.add(len(answers))
        return {"images": [_record(answer, score, max_detections, salience) for answer in answers]}

    async def _answers(self, request: Request) -> list[Answer]:
        with self._bytes.share() as held, self._images.share() as room:
            body = await read_body(request, self.limits, held)
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    sent = await self._off_the_loop(pictures_sent, body, _content_type(request), self.limits)
                    room.grow(len(sent))
                    return await asyncio.gather(*(self._one(picture) for picture in sent))
            except TimeoutError:
                error = f"no answer within {self.limits.answer_seconds:g} s"
                raise Refusal(504, error, "try again, or send fewer images") from None

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
        """Everything that is counted."""
        process = psutil.Process()
        return [
            Gauge("smidgen_info", "What is being served.", lambda: 1, self._info),
            self.answers,
            self.answered_images,
            self._seconds,
            self._batch_seconds,
            self._batch_sizes,
            Gauge("smidgen_queue_images", "Images that wait for the network.", lambda: self._batcher.waiting),
            Gauge("smidgen_images_in_progress", "Images accepted and not answered yet.", lambda: self._images.held),
            Gauge("smidgen_requests_in_progress", "Requests for detections at once.", lambda: self._requests.held),
            Gauge("smidgen_body_bytes", "Bytes of bodies that are held.", lambda: self._bytes.held),
            Gauge("process_resident_memory_bytes", "Resident memory.", lambda: process.memory_info().rss),
        ]

    def observe(self, path: str, status: int, seconds: float) -> None:
        """A request has ended. path: one of the application's, "other" else."""
        self.answers.add(1, path, str(status))
        if path == "/predict":
            self._seconds.observe(seconds)

    def _batch_done(self, size: int, seconds: float) -> None:
        self._batch_sizes.observe(size)
        self._batch_seconds.observe(seconds)


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
