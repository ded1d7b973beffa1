"""When memory runs out, say what to change instead of where the allocator stood."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from smidgen.structures import Preprocessing
from smidgen.training.config import TrainingConfig

# PyTorch's CPU allocator has no exception of its own.
_CPU_ALLOCATOR = re.compile(r"can't allocate memory|not enough memory|DefaultCPUAllocator", re.IGNORECASE)


class OutOfMemory(RuntimeError):  # noqa: N818  the name says what happened
    """Training did not fit into the memory; the message names the settings that make it smaller."""


def memory_advice(config: TrainingConfig, preprocessing: Preprocessing) -> str:
    """The settings that lower the memory, the cheapest first, with their present values."""
    ways = [f"lower training.batch_size (now {config.batch_size}; training.accumulation keeps the size of a step)"]
    if config.precision == "fp32":
        ways.append("set training.precision=bf16 (now fp32)")
    if not config.activation_checkpointing:
        ways.append("set training.activation_checkpointing=true (about a third slower)")
    size = f"{preprocessing.short_side} and {preprocessing.long_side}"
    ways.append(f"lower the image size, model.preprocessing.short_side and long_side (now {size} px)")
    return "; ".join(ways)


@contextlib.contextmanager
def out_of_memory_explained(config: TrainingConfig, preprocessing: Preprocessing) -> Iterator[None]:
    """Turn any failure to allocate into OutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        exhausted = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _CPU_ALLOCATOR.search(str(error))
        if not exhausted or isinstance(error, OutOfMemory):
            raise
        first_line = (str(error).splitlines() or ["no memory left"])[0]
        raise OutOfMemory(
            f"out of memory ({first_line}). To need less: {memory_advice(config, preprocessing)}"
        ) from error
