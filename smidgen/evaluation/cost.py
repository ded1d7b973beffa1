"""What a model costs: parameters, multiply-adds with and without deformable sampling, latency, the share per stage."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from smidgen.evaluation.flop_count import FlopCount, Flops, count_flops, parts_of, random_image
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.evaluation.plain_text import plain_text
from smidgen.structures import DetectorOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One part of a model (`parts_of`). share: of the model's multiply-adds, in [0, 1]."""

    parameters: int
    gmacs: float
    gmacs_without_sampling: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one image of `size_hw` pixels costs. gflops = 2 x gmacs. latency_ms: median, None where not measured.

    queries: of the timed image; a model that counts objects asks as many as the image needs, and its multiply-adds are
    those of its largest budget. None where not timed or unknown.
    """

    model: str
    size_hw: tuple[int, int]
    device: str
    parameters: int
    trainable_parameters: int
    gmacs: float
    gmacs_without_sampling: float
    latency_ms: float | None
    stages: Mapping[str, StageCost]
    queries: int | None = None

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
            "queries": self.queries,
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
        asked = "" if self.queries is None else f" with {self.queries} queries"
        timed = (
            f"\nlatency {self.latency_ms:.1f} ms on {self.device}{asked} (median)"
            if self.latency_ms is not None
            else ""
        )
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
        flops = count_flops(model, size_hw)
        milliseconds, queries = _timed(model, size_hw, runs, seconds) if latency else (None, None)
    parameters = list(model.parameters())
    gmacs, gmacs_without_sampling = flops.total.gmacs()
    return Cost(
        model=str(getattr(model, "name", type(model).__name__)),
        size_hw=size_hw,
        device=str(device_of(model)),
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        gmacs=gmacs,
        gmacs_without_sampling=gmacs_without_sampling,
        latency_ms=milliseconds,
        stages=_stages(model, flops),
        queries=queries,
    )


def _stages(model: nn.Module, flops: FlopCount) -> dict[str, StageCost]:
    """Every part that computes or holds parameters, and what runs outside of them."""
    stages = {}
    total = flops.total.everything
    for name, module in parts_of(model).items():
        spent, parameters = flops.by_part.get(name, Flops(0, 0)), sum(each.numel() for each in module.parameters())
        if spent.everything or parameters:
            stages[name] = _stage(spent, parameters, total)
        for level in [each for each in flops.by_part if each.startswith(f"{name}: level ")]:
            stages[level] = _stage(flops.by_part[level], 0, total)
    rest = flops.total
    for spent in flops.by_part.values():
        rest = rest - spent
    if rest.everything:
        stages["elsewhere"] = _stage(rest, 0, total)
    return stages


def _stage(spent: Flops, parameters: int, total: int) -> StageCost:
    gmacs, gmacs_without_sampling = spent.gmacs()
    return StageCost(
        parameters=parameters,
        gmacs=gmacs,
        gmacs_without_sampling=gmacs_without_sampling,
        share=spent.everything / total if total else 0.0,
    )


def _timed(model: nn.Module, size_hw: tuple[int, int], runs: int, seconds: float) -> tuple[float, int | None]:
    """Median milliseconds of `detect`, and the number of queries that it asked."""
    images = random_image(size_hw, device_of(model))
    detect: Callable[..., Any] = model.detect  # type: ignore[assignment]
    times: list[float] = []
    end = time.perf_counter() + seconds
    with torch.inference_mode():
        queries = _num_queries(model, lambda: detect(images, [size_hw]))
        while not times or (len(times) < runs and time.perf_counter() < end):
            times.append(_seconds(lambda: detect(images, [size_hw]), images.pixels))
    return statistics.median(times) * 1000, queries


def _num_queries(model: nn.Module, call: Callable[[], Any]) -> int | None:
    """Rows without padding in the model's output during the call; None for a model with another kind of output."""
    outputs: list[Any] = []
    hook = model.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        call()
    finally:
        hook.remove()
    if not outputs or not isinstance(outputs[-1], DetectorOutput):
        return None
    final = outputs[-1].final
    return final.boxes_cxcywh.shape[1] if final.padding is None else int((~final.padding).sum())


def _seconds(call: Callable[[], Any], like: Tensor) -> float:
    def finish() -> None:
        if like.is_cuda:
            torch.cuda.synchronize(like.device)

    finish()
    start = time.perf_counter()
    call()
    finish()
    return time.perf_counter() - start
