"""Work that is counted and never timed: operator calls, floating point operations, bytes, and lines of Python.

A count is the same on every machine, however busy, so that a test can say "not one call more for ten times the boxes".
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import smidgen
from smidgen.nn.sampling_embedding_bag import sample_bags, sample_bags_backward
from smidgen.nn.sampling_grid import GRID_SAMPLE_FLOPS

PACKAGE = str(Path(smidgen.__file__).parent)
OPENED = {operator._opoverload: operator._init_fn for operator in (sample_bags, sample_bags_backward)}
"""Operators of ours that are written in torch: what they call is counted, not they."""


@dataclass(frozen=True, slots=True)
class TensorWork:
    """What torch did. calls: operators, views included. allocated: bytes of all storages that were made; peak: of those
    alive at once; returned: of the results.
    """

    calls: int
    allocated: int
    peak: int
    returned: int

    @property
    def workspace(self) -> int:
        """Most bytes alive at once beside the results."""
        return self.peak - self.returned


def tensor_work(function: Callable[..., Any], *arguments: Any, **options: Any) -> TensorWork:
    """Of one run, backward passes inside it included."""
    with _Counter() as counter:
        results = function(*arguments, **options)
    returned = sum(counter.alive.get(storage._cdata, 0) for storage in _storages(results).values())
    return TensorWork(counter.calls, counter.allocated, counter.peak, returned)


def flops(function: Callable[..., Any], *arguments: Any, **options: Any) -> int:
    """Of products, convolutions and deformable sampling (two for a multiply-add), as `smidgen profile` counts them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=GRID_SAMPLE_FLOPS) as counter:
            function(*arguments, **options)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


def python_lines(function: Callable[..., Any], *arguments: Any, leave_out: tuple[str, ...] = (), **options: Any) -> int:
    """Lines of smidgen that Python ran, each as often as it ran, but for files whose paths end in one of `leave_out`.

    The function runs once before, so that what is kept from call to call is there.
    """
    function(*arguments, **options)
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE) or name.endswith(leave_out):
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments, **options)
    finally:
        sys.settrace(before)
    return lines


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = self.allocated = self.peak = 0
        self.alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in OPENED:
            with self:
                return OPENED[function](*args, **(kwargs or {}))
        result = function(*args, **(kwargs or {}))
        self.calls += 1
        given = _storages((args, kwargs))
        for key, storage in _storages(result).items():
            if key not in given and key not in self.alive:
                self._made(key, storage)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result

    def _made(self, key: int, storage: torch.UntypedStorage) -> None:
        self.alive[key] = storage.nbytes()
        self.allocated += storage.nbytes()
        weakref.finalize(storage, self.alive.pop, key, None)


def _storages(values: Any) -> dict[int, torch.UntypedStorage]:
    dense = (each for each in tree_leaves(values) if isinstance(each, Tensor) and each.layout == torch.strided)
    return {storage._cdata: storage for storage in (each.untyped_storage() for each in dense)}
