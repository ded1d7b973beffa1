"""A server under the load of many clients: how it answers, how fast, and whether its memory stays flat.

    python benchmarks/serving_load.py [--clients 64] [--seconds 60] [--warm-up 20] [--run RUN] [--quick]

`smidgen serve RUN` is started at a free port (without --run: an untrained dino_nano, whose time is that of a trained
one). Every client sends one of four pictures of two sizes, waits for the answer, and sends the next; told to come back
(429) it waits as long as Retry-After says. All of them come at once to a server that has answered nobody; what is
reported begins when the warm-up is over, but for failures, which count from the first request. Printed: answers by
status (anything but 200 and 429 is a failure, and the exit code is 1 then), answers per second, latencies, images per
batch, and the server's resident memory before the first request, at the start, by quarters of the time, and at the end.
--quick: 8 clients for 5 s.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from measuring import parser, recording
from PIL import Image

from smidgen import create_model, save

SIZES_WH = ((640, 480), (320, 320))
PICTURES_OF_A_SIZE = 2
MEMORY_READINGS = 4
INTENDED = {200, 429}


@dataclass
class Load:
    """What came back. begins: time from which answers count; before, only what is not intended does."""

    begins: float
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    memory_mib: list[float] = field(default_factory=list)

    def answered(self, status: int, began: float) -> None:
        """A request that began then has its answer."""
        if time.monotonic() < self.begins and status in INTENDED:
            return
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(time.monotonic() - began)


def main() -> None:
    options_parser = parser(__doc__, rounds=1, clients=(64, 8), seconds=(60.0, 5.0), warm_up=(20.0, 1.0))
    options_parser.add_argument("--run", type=Path, help="run or checkpoint folder (default: an untrained dino_nano)")
    with recording(__file__, options_parser.parse_args()) as record, tempfile.TemporaryDirectory() as folder:
        options = record.options
        with server(options.run or untrained(Path(folder))) as (port, process):
            before = os.getloadavg()[0]
            load = asyncio.run(loaded(port, process, options))
            spent = process.cpu_times()
            batches = asyncio.run(images_per_batch(port))
        record.count("answers", **{str(status): count for status, count in sorted(load.statuses.items())})
        record.count("answers a second", served=load.statuses[200] / options.seconds)
        record.count("seconds to an answer", **quantiles(load.seconds))
        record.count("images of a batch", mean=batches)
        idle, *readings = (round(value) for value in load.memory_mib)
        record.count("resident MiB", before=idle, readings=readings)
        record.count("machine", load=(before, os.getloadavg()[0]), server_cpu_seconds=spent.user + spent.system)
        record.count("failed connections", **load.failures)
    sys.exit(1 if load.failures or set(load.statuses) - INTENDED else 0)


def untrained(folder: Path) -> Path:
    torch.manual_seed(0)
    return save(create_model("dino_nano", num_classes=3), folder / "run")


@contextmanager
def server(run: Path) -> Iterator[tuple[int, psutil.Process]]:
    command = [sys.executable, "-m", "smidgen", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            (port,) = re.findall(r":(\d+) \(Ctrl-C", started.stderr.readline())
            yield int(port), psutil.Process(started.pid)
        finally:
            started.terminate()


async def loaded(port: int, process: psutil.Process, options: Namespace) -> Load:
    """All clients at once until the time is over."""
    load, contents = Load(time.monotonic() + options.warm_up), pictures()
    until = load.begins + options.seconds
    work = [client(port, contents[number % len(contents)], until, load) for number in range(options.clients)]
    await asyncio.gather(watched(process, options.seconds, load), *work)
    return load


async def watched(process: psutil.Process, seconds: float, load: Load) -> None:
    load.memory_mib.append(process.memory_info().rss / 2**20)
    await asyncio.sleep(load.begins - time.monotonic())
    for reading in range(MEMORY_READINGS + 1):
        load.memory_mib.append(process.memory_info().rss / 2**20)
        if reading < MEMORY_READINGS:
            await asyncio.sleep(seconds / MEMORY_READINGS)


async def client(port: int, content: bytes, until: float, load: Load) -> None:
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            status, head = await ask(port, content)
        except (OSError, EOFError, ValueError) as error:
            load.failures[type(error).__name__] += 1
            continue
        load.answered(status, began)
        if status == 429:
            await asyncio.sleep(float(re.findall(rb"retry-after: (\d+)", head)[0]))


async def ask(port: int, content: bytes) -> tuple[int, bytes]:
    """Status and head of the answer; its body is read and thrown away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /predict HTTP/1.1\r\nHost: server\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(maxsplit=2)[1]), answer.partition(b"\r\n\r\n")[0].lower()


async def images_per_batch(port: int) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    total, count = (
        float(re.findall(rf"^smidgen_batch_images_{part} (\S+)$", text.replace("\r", ""), re.MULTILINE)[0])
        for part in ("sum", "count")
    )
    return total / count


def pictures() -> list[bytes]:
    """JPEGs of noise, smooth enough to be of a photograph's length."""
    random = np.random.default_rng(0)
    return [jpeg(random, size) for size in SIZES_WH for _ in range(PICTURES_OF_A_SIZE)]


def jpeg(random: np.random.Generator, size_wh: tuple[int, int]) -> bytes:
    coarse = random.integers(0, 256, (size_wh[1] // 8, size_wh[0] // 8, 3), dtype=np.uint8)
    stored = io.BytesIO()
    Image.fromarray(coarse).resize(size_wh, Image.Resampling.BICUBIC).save(stored, format="JPEG", quality=90)
    return stored.getvalue()


def quantiles(seconds: list[float]) -> dict[str, Any]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "longest": max(seconds)}


if __name__ == "__main__":
    main()
