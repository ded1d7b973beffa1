"""What a model costs: parameters, multiply-adds with and without deformable sampling, latency, and the share per stage.

Counted are convolutions, linears and matrix products (those inside attention, too) and the sampling of deformable
attention; elementwise work, norms and look-ups are not, as in the published figures, which also leave sampling out.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from smidgen.evaluation.modes import evaluating
from smidgen.evaluation.plain_text import plain_text
from smidgen.nn.deformable_attention import sampling_macs
from smidgen.structures import ImageBatch

logger = logging.getLogger(__name__)

MACS_PER_SAMPLE = sampling_macs(1, 1, 1, 1, 1)
"""Of one sampled point and channel: its bilinear corners and its attention weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One top-level part of a model. share: of the model's multiply-adds, in [0, 1]."""

    parameters: int
    gmacs: float
    gmacs_without_sampling: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one image of `size_hw` pixels costs. gflops = 2 x gmacs. latency_ms: median, None where not measured."""

    model: str
    size_hw: tuple[int, int]
    device: str
    parameters: int
    trainable_parameters: int
    gmacs: float
    gmacs_without_sampling: float
    latency_ms: float | None
    stages: Mapping[str, StageCost]

    @property
    def gflops(self) -> float:
        """Floating point operations in 10^9: a multiply-add is two."""
        return 2 * self.gmacs

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dumps."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            "gmacs": self.gmacs,
            "gmacs_without_sampling": self.gmacs_without_sampling,
            "gflops": self.gflops,
            "latency_ms": self.latency_ms,
            "stages": {
                name: {
                    "parameters": stage.parameters,
                    "gmacs": stage.gmacs,
                    "gmacs_without_sampling": stage.gmacs_without_sampling,
                    "share": stage.share,
                }
                for name, stage in self.stages.items()
            },
            "size_hw": list(self.size_hw),
            "device": self.device,
        }

    def renderable(self) -> Group:
        """Headline and stages, for a rich console."""
        table = Table("stage", "parameters", "GMAC", "without sampling", "share")
        for name, stage in self.stages.items():
            values = (f"{stage.parameters:,}", f"{stage.gmacs:.2f}", f"{stage.gmacs_without_sampling:.2f}")
            table.add_row(name, *values, f"{stage.share:.1%}")
        return Group(Text(self._headline()), table)

    def table(self, width: int = 120) -> str:
        """The same as plain text."""
        return plain_text(self.renderable(), width)

    def _headline(self) -> str:
        height, width = self.size_hw
        timed = "" if self.latency_ms is None else f"\nlatency {self.latency_ms:.1f} ms on {self.device} (median)"
        return (
            f"{self.model} on one image of {height} x {width} (height x width)\n"
            f"{self.parameters:,} parameters, {self.trainable_parameters:,} trainable\n"
            f"{self.gmacs:.2f} GMAC = {self.gflops:.2f} GFLOP; {self.gmacs_without_sampling:.2f} GMAC without sampling"
            f"{timed}"
        )


def profile(
    model: nn.Module,
    *,
    size_hw: tuple[int, int] = (800, 1333),
    latency: bool = True,
    runs: int = 5,
    seconds: float = 20.0,
) -> Cost:
    """Count what one random image of `size_hw` network-input pixels costs, and time it on the model's device.

    The count runs on shapes alone where the model allows it, else for real. latency: time `runs` calls of `detect`
    after a warm-up, fewer once `seconds` are over. Raises ValueError for an impossible size.
    """
    if min(size_hw) < 1:
        raise ValueError(f"expected a size of at least 1 x 1 pixels (height x width), got {size_hw}")
    with evaluating(model):
        flops = _count(model, size_hw)
        milliseconds = _latency_ms(model, size_hw, runs, seconds) if latency else None
    parameters = list(model.parameters())
    gmacs, gmacs_without_sampling = flops["total"].gmacs()
    return Cost(
        model=str(getattr(model, "name", type(model).__name__)),
        size_hw=size_hw,
        device=str(_device(model)),
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        gmacs=gmacs,
        gmacs_without_sampling=gmacs_without_sampling,
        latency_ms=milliseconds,
        stages=_stages(model, flops),
    )


@dataclass(slots=True)
class _Flops:
    everything: int = 0
    sampling: int = 0

    def gmacs(self) -> tuple[float, float]:
        return self.everything / 2e9, (self.everything - self.sampling) / 2e9


def _stages(model: nn.Module, flops: Mapping[str, _Flops]) -> dict[str, StageCost]:
    """Every top-level part that computes or holds parameters, and what runs outside of them."""
    stages = {}
    total = flops["total"].everything
    for name, module in model.named_children():
        spent, parameters = flops.get(name, _Flops()), sum(part.numel() for part in module.parameters())
        if spent.everything or parameters:
            stages[name] = _stage(spent, parameters, total)
    inside = [flops[name] for name in stages if name in flops]
    rest = _Flops(
        total - sum(spent.everything for spent in inside),
        flops["total"].sampling - sum(spent.sampling for spent in inside),
    )
    if rest.everything:
        stages["elsewhere"] = _stage(rest, 0, total)
    return stages


def _stage(spent: _Flops, parameters: int, total: int) -> StageCost:
    gmacs, gmacs_without_sampling = spent.gmacs()
    return StageCost(
        parameters=parameters,
        gmacs=gmacs,
        gmacs_without_sampling=gmacs_without_sampling,
        share=spent.everything / total if total else 0.0,
    )


def _count(model: nn.Module, size_hw: tuple[int, int]) -> dict[str, _Flops]:
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            return _count_run(_without_values(model, mode), size_hw)
    except Exception as error:  # any model code may refuse tensors without values, each in its own way
        logger.debug("counting on shapes failed (%s); running the model", error)
    return _count_run(deepcopy(model), size_hw)


def _without_values(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy whose tensors have shapes only: nothing is allocated, and nothing the run caches reaches the model."""
    tensors = chain(model.parameters(), model.buffers())
    return deepcopy(model, {id(tensor): mode.from_tensor(tensor) for tensor in tensors})


def _count_run(model: nn.Module, size_hw: tuple[int, int]) -> dict[str, _Flops]:
    """One forward pass of a copy that is thrown away afterwards."""
    # The counter's module tracker stumbles over a module that returns a parameter which asks for gradients.
    model.requires_grad_(False)
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), _plain_attention(), counter, _spent_by_children(model, lambda: _flops(counter)) as spent:
        model(_random_image(size_hw, _device(model)))
    return {**spent, "total": _flops(counter)}


@contextmanager
def _spent_by_children(model: nn.Module, read: Callable[[], _Flops]) -> Iterator[dict[str, _Flops]]:
    """What `read` grew by inside each top-level child; a child called by another one counts as part of its caller."""
    spent: dict[str, _Flops] = {}
    starts: list[_Flops] = []

    def leave(name: str) -> None:
        start, stop = starts.pop(), read()
        if not starts:
            before = spent.setdefault(name, _Flops())
            before.everything += stop.everything - start.everything
            before.sampling += stop.sampling - start.sampling

    with ExitStack() as hooks:
        for name, child in model.named_children():
            enter = child.register_forward_pre_hook(lambda *_: starts.append(read()))
            exit_ = child.register_forward_hook(lambda *_, name=name: leave(name))
            hooks.callback(enter.remove)
            hooks.callback(exit_.remove)
        yield spent


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products: fused kernels differ by device and version, and some are not counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _grid_sample_flops(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
    batch, channels, height, width = out_shape
    return int(2 * MACS_PER_SAMPLE * batch * channels * height * width)


def _embedding_bag_flops(weight: Any, indices: Any, *shapes: Any, out_shape: Any = None, **_: Any) -> int:
    """A bag holds the 4 corners of its samples, so that both ways of sampling cost the same."""
    return int(2 * MACS_PER_SAMPLE * indices[0] * weight[1] // 4)


# Sampling operators of torch, which it counts as nothing; ours brings its formula along.
_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.grid_sampler_2d: _grid_sample_flops,
    torch.ops.aten._embedding_bag: _embedding_bag_flops,
    torch.ops.aten._embedding_bag_forward_only: _embedding_bag_flops,
}
_SAMPLING = {*_FORMULAS, torch.ops.smidgen.sample_bags}


def _flops(counter: FlopCounterMode) -> _Flops:
    by_operation: Mapping[Any, int] = counter.get_flop_counts().get("Global", {})
    sampling = sum(count for operation, count in by_operation.items() if operation in _SAMPLING)
    return _Flops(sum(by_operation.values()), sampling)


def _random_image(size_hw: tuple[int, int], device: torch.device) -> ImageBatch:
    pixels = torch.rand(1, 3, *size_hw, device=device)
    return ImageBatch(pixels, torch.zeros(1, *size_hw, dtype=torch.bool, device=device), (size_hw,))


def _latency_ms(model: nn.Module, size_hw: tuple[int, int], runs: int, seconds: float) -> float:
    images = _random_image(size_hw, _device(model))
    detect: Callable[..., Any] = model.detect  # type: ignore[assignment]
    times: list[float] = []
    end = time.perf_counter() + seconds
    with torch.inference_mode():
        detect(images, [size_hw])
        while not times or (len(times) < runs and time.perf_counter() < end):
            times.append(_seconds(lambda: detect(images, [size_hw]), images.pixels))
    return statistics.median(times) * 1000


def _seconds(call: Callable[[], Any], like: Tensor) -> float:
    def finish() -> None:
        if like.is_cuda:
            torch.cuda.synchronize(like.device)

    finish()
    start = time.perf_counter()
    call()
    finish()
    return time.perf_counter() - start


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
