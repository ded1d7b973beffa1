"""How much memory training will take, measured on a small canvas and carried over to the largest one.

Weights, gradients, Adam's two moments and the average are counted. Activations are what autograd keeps in a forward
pass of one image; they grow linearly with the canvas, c0 + c1 * area, so two small passes foretell a large one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from smidgen.structures import ImageBatch, Preprocessing, Target
from smidgen.training.contracts import Detector
from smidgen.training.precision import autocast
from smidgen.training.random_state import preserved_random_state

# Large enough for the coarsest level and for 900 queries, small enough for a CPU.
_LARGE_SIDE, _SMALL_SIDE = 448, 320
_ADAM_MOMENTS = 2
_GIGABYTE = 1e9


@dataclass(frozen=True, kw_only=True)
class MemoryForecast:
    """Bytes by purpose for batches of `images` of `canvas_hw` pixels in one process; available: None = not known."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    images: int
    canvas_hw: tuple[int, int]
    available: int | None

    @property
    def total(self) -> int:
        """All of it in bytes."""
        return self.weights + self.gradients + self.optimizer + self.average + self.activations

    @property
    def fits(self) -> bool:
        """Whether it probably fits."""
        return self.available is None or self.total <= self.available

    def __str__(self) -> str:
        names = ("weights", "gradients", "optimizer", "average", "activations")
        parts = ", ".join(f"{name} {_gigabytes(getattr(self, name))}" for name in names if getattr(self, name))
        of = "" if self.available is None else f" of {_gigabytes(self.available)} available"
        batch = f"{self.images} x {self.canvas_hw[0]} x {self.canvas_hw[1]} px"
        return f"Memory forecast for batches of {batch}: {parts}; together about {_gigabytes(self.total)}{of}"


def forecast_memory(
    model: nn.Module, *, images: int, averaged: bool, precision: Literal["fp32", "bf16"], device: torch.device
) -> MemoryForecast:
    """Forecast for batches of `images` of the model's largest size; nothing of the model or of randomness changes."""
    trained = sum(_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad)
    weights = sum(_bytes(tensor) for tensor in [*model.parameters(), *model.buffers()])
    canvas_hw = largest_canvas(cast("Detector", model).config.preprocessing)
    with _unchanged(model), autocast(precision, device):
        activations = _activations_per_image(model, canvas_hw, device)
    return MemoryForecast(
        weights=weights,
        gradients=trained,
        optimizer=_ADAM_MOMENTS * trained,
        average=weights if averaged else 0,
        activations=images * activations,
        images=images,
        canvas_hw=canvas_hw,
        available=available_memory(device),
    )


def largest_canvas(preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width in pixels of the largest image that the resize rule makes, padded."""
    multiple = preprocessing.pad_multiple
    short, long = (-(-side // multiple) * multiple for side in (preprocessing.short_side, preprocessing.long_side))
    return short, long


def available_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take, with what it holds on a GPU already."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device))
    return int(psutil.virtual_memory().available) if device.type == "cpu" else None


def used_gigabytes(device: torch.device) -> float:
    """The peak on a GPU, else what the process holds now."""
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    return float(used / _GIGABYTE)


def _activations_per_image(model: nn.Module, canvas_hw: tuple[int, int], device: torch.device) -> int:
    area = canvas_hw[0] * canvas_hw[1]
    if area <= _LARGE_SIDE**2:
        return kept_bytes(model, canvas_hw, device)
    large, small = (kept_bytes(model, (side, side), device) for side in (_LARGE_SIDE, _SMALL_SIDE))
    slope = (large - small) / (_LARGE_SIDE**2 - _SMALL_SIDE**2)
    return round(large + slope * (area - _LARGE_SIDE**2))


def kept_bytes(model: nn.Module, canvas_hw: tuple[int, int], device: torch.device) -> int:
    """Bytes that autograd keeps of a forward pass of one image of this size, weights not counted."""
    known = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model(*_sample(canvas_hw, device))
    del output  # alive until here: no storage was freed and its address counted twice
    return sum(kept.values())


def _sample(canvas_hw: tuple[int, int], device: torch.device) -> tuple[ImageBatch, tuple[Target, ...]]:
    """A gray image with one object in its middle."""
    height, width = canvas_hw
    image = torch.full((3, height, width), 128, dtype=torch.uint8)
    box = torch.tensor([[0.4 * width, 0.4 * height, 0.6 * width, 0.6 * height]])
    target = Target.of(box, torch.zeros(1, dtype=torch.long), canvas_hw)
    return ImageBatch.collate([image]).to(device), (target.to(device),)


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """A training-mode forward pass inside leaves buffers (running statistics), mode and random state as they were."""
    training = model.training
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with preserved_random_state():
            model.train()
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        model.train(training)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _gigabytes(number: int) -> str:
    return f"{number / _GIGABYTE:.2f} GB"
