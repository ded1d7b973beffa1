"""The most memory that a call holds at once, beyond what was held before it.

On a GPU it is what the allocator's peak grew by. On Linux it is what the process's resident memory grew by, libraries
other than torch included: the high-water mark is set back before the call, and freed memory is given to the system
first, or it would be used again unseen. Elsewhere it is not measured.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What the kernel wants to read to set the high-water mark back to what is resident now (man 5 proc)."""


def peak_mib(call: Callable[[], object], device: str = "cpu") -> float | None:
    """MiB, or None where the system does not tell; the call is made in either case."""
    if torch.device(device).type == "cuda":
        return _peak_on_gpu(call)
    gc.collect()
    _return_freed_memory()
    try:
        _RESET.write_text(_RESET_PEAK)
    except OSError:
        call()
        return None
    before = _resident_mib("VmRSS")
    call()
    return max(_resident_mib("VmHWM") - before, 0.0)


def _peak_on_gpu(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _resident_mib(field: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def _return_freed_memory() -> None:
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL("libc.so.6").malloc_trim(0)
