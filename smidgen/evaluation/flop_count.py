"""Multiply-adds of one forward pass, with those of deformable sampling apart, in all and by top-level part.

Counted are convolutions, linears and matrix products (those inside attention, too) and the sampling of deformable
attention; elementwise work, norms and look-ups are not, as in the published figures, which also leave sampling out.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from smidgen.evaluation.model_state import device_of
from smidgen.nn.deformable_attention import sampling_macs
from smidgen.nn.sampling_grid import GRID_SAMPLE_FLOPS
from smidgen.structures import ImageBatch
from smidgen.tokens.staged_encoder import StagedEncoder

logger = logging.getLogger(__name__)

MACS_PER_SAMPLE = sampling_macs(1, 1, 1, 1, 1)
"""Of one sampled point and channel: its bilinear corners and its attention weight."""


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating point operations (a multiply-add is two), and how many of them are deformable sampling."""

    everything: int
    sampling: int

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.everything + other.everything, self.sampling + other.sampling)

    def __sub__(self, other: Flops) -> Flops:
        return Flops(self.everything - other.everything, self.sampling - other.sampling)

    def gmacs(self) -> tuple[float, float]:
        """10^9 multiply-adds, with and without sampling."""
        return self.everything / 2e9, (self.everything - self.sampling) / 2e9


@dataclass(frozen=True, slots=True)
class FlopCount:
    """One forward pass. by_part: part (`parts_of`) -> what it spent; what runs outside of them is in `total` only."""

    total: Flops
    by_part: Mapping[str, Flops]


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Top-level parts by name. Ideas that follow an encoder stand beside it, as "encoder: CountingEnhancement"."""
    parts: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if not isinstance(child, StagedEncoder):
            parts[name] = child
            continue
        parts[name] = child.encoder
        for number, stage in enumerate(child.stages, start=1):
            title = f"{name}: {type(stage).__name__}"
            parts[title if title not in parts else f"{title} (stage {number})"] = stage
    return parts


def count_flops(model: nn.Module, size_hw: tuple[int, int]) -> FlopCount:
    """Count one random image of `size_hw` pixels, on shapes alone where the model's code allows it, else for real."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, warnings.catch_warnings():
            # torchvision's suppression on shapes alone calls a function of torch that has a newer name.
            warnings.filterwarnings("ignore", message=".*create_unbacked_symint", category=FutureWarning)
            return _run(_without_values(model, mode), size_hw)
    except Exception as error:  # any model code may refuse tensors without values, each in its own way
        logger.debug("counting on shapes failed (%s); running the model", error)
    return _run(deepcopy(model), size_hw)


def _without_values(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy whose tensors have shapes only: nothing is allocated, and nothing the run caches reaches the model."""
    tensors = chain(model.parameters(), model.buffers())
    return deepcopy(model, {id(tensor): mode.from_tensor(tensor) for tensor in tensors})


def _run(model: nn.Module, size_hw: tuple[int, int]) -> FlopCount:
    """One forward pass of a copy that is thrown away afterwards."""
    # The counter's module tracker stumbles over a module that returns a parameter which asks for gradients.
    model.requires_grad_(False)
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), _plain_attention(), counter, _spent_by_parts(model, lambda: _flops(counter)) as spent:
        model(random_image(size_hw, device_of(model)))
    return FlopCount(_flops(counter), spent)


@contextmanager
def _spent_by_parts(model: nn.Module, read: Callable[[], Flops]) -> Iterator[dict[str, Flops]]:
    """What `read` grew by inside each part; a part called by another one counts as a piece of its caller. A part that
    is called with the keyword `level` (a dense head) is listed level by level, as "head: level 0".
    """
    spent: dict[str, Flops] = {}
    starts: list[Flops] = []

    def leave(name: str, keywords: Mapping[str, Any]) -> None:
        name = f"{name}: level {keywords['level']}" if "level" in keywords else name
        start, stop = starts.pop(), read()
        if not starts:
            spent[name] = spent.get(name, Flops(0, 0)) + (stop - start)

    with ExitStack() as hooks:
        for name, part in parts_of(model).items():
            entering = part.register_forward_pre_hook(lambda *_: starts.append(read()))
            leaving = part.register_forward_hook(
                lambda _, __, keywords, ___, name=name: leave(name, keywords), with_kwargs=True
            )
            hooks.callback(entering.remove)
            hooks.callback(leaving.remove)
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


def _embedding_bag_flops(weight: Any, indices: Any, *shapes: Any, out_shape: Any = None, **_: Any) -> int:
    """A bag holds the 4 corners of its samples, so that both ways of sampling cost the same."""
    return int(2 * MACS_PER_SAMPLE * indices[0] * weight[1] // 4)


# Sampling operators of torch, which it counts as nothing; ours bring their formula along.
_FORMULAS: dict[Any, Callable[..., int]] = {
    **GRID_SAMPLE_FLOPS,
    torch.ops.aten._embedding_bag: _embedding_bag_flops,
    torch.ops.aten._embedding_bag_forward_only: _embedding_bag_flops,
}
_SAMPLING = {*_FORMULAS, torch.ops.smidgen.sample_bags, torch.ops.smidgen.sample_triton}


def _flops(counter: FlopCounterMode) -> Flops:
    by_operation: Mapping[Any, int] = counter.get_flop_counts().get("Global", {})
    sampling = sum(count for operation, count in by_operation.items() if operation in _SAMPLING)
    return Flops(sum(by_operation.values()), sampling)


def random_image(size_hw: tuple[int, int], device: torch.device) -> ImageBatch:
    """A batch of one image of noise, without padding."""
    pixels = torch.rand(1, 3, *size_hw, device=device)
    return ImageBatch(pixels, torch.zeros(1, *size_hw, dtype=torch.bool, device=device), (size_hw,))
