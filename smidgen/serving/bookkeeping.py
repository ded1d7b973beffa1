"""What the server counts and times: for Prometheus, and to know its own pace."""

from __future__ import annotations

from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]

from smidgen.serving.metrics import BATCHES, SECONDS, Counter, Gauge, Histogram, Metric

NEWEST_SHARE = 0.2
"""Of the newest batch in the mean seconds per image."""


class Bookkeeping:
    """info: label and value of what is served."""

    def __init__(self, info: Iterable[tuple[str, str]]) -> None:
        self.images = Counter("smidgen_images_total", "Images answered.")
        self.image_seconds = 0.0
        self._requests = Counter("smidgen_requests_total", "Requests by path and status.", ("path", "status"))
        self._seconds = Histogram(
            "smidgen_request_seconds", "Seconds from a request to its answer (/predict).", SECONDS
        )
        self._batch_seconds = Histogram("smidgen_inference_seconds", "Seconds of a batch in the network.", SECONDS)
        self._batch_sizes = Histogram("smidgen_batch_images", "Images of a batch.", BATCHES)
        self._info = Gauge("smidgen_info", "What is being served.", lambda: 1, info)
        self._process = psutil.Process()

    def request_done(self, path: str, status: int, seconds: float) -> None:
        """path: one of the application's, "other" else."""
        self._requests.add(1, path, str(status))
        if path == "/predict":
            self._seconds.observe(seconds)

    def batch_done(self, size: int, seconds: float) -> None:
        """A batch has been through the network."""
        self._batch_sizes.observe(size)
        self._batch_seconds.observe(seconds)
        self.learn_pace(size, seconds)

    def learn_pace(self, size: int, seconds: float) -> None:
        """So many images took so long in the network; the newest count most."""
        share = NEWEST_SHARE if self.image_seconds else 1.0
        self.image_seconds += share * (seconds / size - self.image_seconds)

    def metrics(self, *held: Metric) -> list[Metric]:
        """Everything that is counted here, and what is held at the moment."""
        memory = Gauge("process_resident_memory_bytes", "Resident memory.", lambda: self._process.memory_info().rss)
        times = [self._seconds, self._batch_seconds, self._batch_sizes]
        return [self._info, self._requests, self.images, *times, *held, memory]
