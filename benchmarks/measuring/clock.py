"""Which clock counts: CPU time of the process on a CPU, CUDA's events on a GPU; the wall's clock beside it.

CPU time passes only while this process computes, so that others on the same cores cost it little more than their share
of the caches. It adds up all threads: libraries are held to one (`torch.set_num_threads(1)` and their own settings).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Spent:
    """What one call took, by the clock that counts and by the wall's."""

    seconds: float
    wall_seconds: float


Timed = tuple[Spent, Any]


def timed_on_cpu(call: Callable[[], Any]) -> Timed:
    """CPU seconds of the whole process, and the call's answer."""
    wall, start = time.perf_counter(), time.process_time()
    answer = call()
    return Spent(time.process_time() - start, time.perf_counter() - wall), answer


def timed_on_gpu(call: Callable[[], Any]) -> Timed:
    """Seconds between two CUDA events around the call, and its answer."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    wall = time.perf_counter()
    begin.record()
    answer = call()
    end.record()
    end.synchronize()
    return Spent(begin.elapsed_time(end) / 1000, time.perf_counter() - wall), answer


def clock_of(device: str) -> tuple[str, Callable[[Callable[[], Any]], Timed]]:
    """Name and function of the clock that counts on a device."""
    if torch.device(device).type == "cuda":
        return "CUDA events", timed_on_gpu
    return "CPU time of the process", timed_on_cpu
