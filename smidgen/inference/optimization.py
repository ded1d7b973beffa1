"""A trained detector made fast for inference: rewritten weights, a faster memory layout, fewer bits if asked.

A function, `smidgen.optimize(model)`, and no method of the models: models know nothing of inference, a detector of
one's own has no base class to inherit a method from, and what comes back is not the model any more: it cannot be
trained or saved. It has what detecting takes: config, classes, preprocessing, `detect`, and a call.

How close it is, on the same canvas, for logits and boxes in [0, 1] (tests/inference/test_optimization.py):

- fp32: 1e-4. Only the order of additions differs: norms are folded, and on a CPU oneDNN multiplies (ADR 0033). Where
  the network itself chooses (the best 300 tokens, cells above a threshold), two that score alike may change places.
- bf16: 0.1 in logits and 0.03 in boxes for queries that start at the same places (seen with ResNet-50: 5e-3 and 2e-3);
  8 significant bits make more ties, so more queries do start elsewhere. Geometry (boxes, references, sine encodings,
  sampling places) stays in float32. AP of a trained dino_nano on 40 images: 0.2364, in bf16 0.2363.

A canvas padded to buckets (`compile`, `bucket_px`) is another canvas: see `shape_buckets`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from smidgen.boxes.precision import as_float32
from smidgen.inference.bfloat16 import warn_where_slow
from smidgen.inference.inference_copy import convert_convolutions, inference_copy
from smidgen.inference.shape_buckets import in_bucket
from smidgen.nn.inference_only import refuse_to_be_saved
from smidgen.nn.packed_products import pack_products
from smidgen.structures import Detections, ImageBatch

NumberFormat = Literal["fp32", "bf16"]

COMPILED_BUCKET_PX = 64
"""Sides of compiled canvases: images of 800 x (up to 1333) px have nine sizes, with 5 % more pixels at most."""
MOST_COMPILATIONS = 64
"""Canvas sizes; torch stops compiling after 8 unless it is told (older versions cannot be)."""


def optimize(
    model: nn.Module,
    dtype: NumberFormat = "fp32",
    compile: bool | str | Callable[..., Any] = False,
    *,
    bucket_px: int | None = None,
) -> OptimizedDetector:
    """A detector that answers as `model` within the bounds above, for the device that `model` is on.

    dtype: "bf16" computes convolutions and products in bfloat16 and pays where the processor knows it (else a warning
    is logged); answers are float32 either way. compile: torch.compile backbone and neck (True, or one of torch's
    backends or its name); the first image of every canvas size then takes a minute or more, so canvases are padded to
    multiples of `bucket_px` (None: 64 if compiled, else no padding). `model` stays as it is and may be trained on; the
    result shares the memory of weights that did not change (those of products on a CPU in float32 did: they are laid
    out anew), so optimize again after training.
    Raises ValueError for a model in training mode, and for settings that are not offered.
    """
    _check(model, dtype, bucket_px)
    copy = inference_copy(model)
    if dtype == "bf16":
        warn_where_slow(next(model.parameters()).device)
        convert_convolutions(nn.ModuleList([copy.backbone, copy.neck]), torch.bfloat16)
    else:
        for stage in copy.children():
            if not (compile and stage in (copy.backbone, copy.neck)):  # the compiler packs for itself
                pack_products(stage)
    if compile:
        bucket_px = bucket_px or COMPILED_BUCKET_PX
        _compile(copy, "inductor" if compile is True else compile)
    return OptimizedDetector(copy, Optimization(dtype, _backend_name(compile), bucket_px))


@dataclass(frozen=True, slots=True)
class Optimization:
    """How an optimized detector computes, which its figures must say: evaluation.json has it under settings.optimized.

    compile: torch's backend, None = not compiled. bucket_px: canvases are padded to multiples of it, None = not at all.
    """

    dtype: NumberFormat
    compile: str | None
    bucket_px: int | None

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dumps."""
        return asdict(self)


class OptimizedDetector(nn.Module):
    """`detector`, a copy rewritten by `optimize`, computed as `optimization` says."""

    def __init__(self, detector: Any, optimization: Optimization) -> None:
        super().__init__()
        self.name, self.config, self.classes = detector.name, detector.config, detector.classes
        self.preprocessing, self.object_sizes = detector.preprocessing, getattr(detector, "object_sizes", None)
        self.detector, self.optimization = detector, optimization
        self.training = False
        self.register_state_dict_pre_hook(refuse_to_be_saved)

    def forward(self, images: ImageBatch) -> Any:
        """The model's output, in float32."""
        bucket_px = self.optimization.bucket_px
        images = images if bucket_px is None else in_bucket(images, bucket_px)
        with _computing_in(self.optimization.dtype, images.pixels.device):
            return as_float32(self.detector(images))

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        """Best-scoring boxes of each image in pixels of the original image of size `original_hw`."""
        found: list[Detections] = self.detector.readout(self(images), original_hw, self.classes)
        return found

    def train(self, mode: bool = True) -> OptimizedDetector:
        """Evaluation mode alone. Raises ValueError for the other."""
        if mode:
            raise ValueError(
                "expected an optimized model to stay in evaluation mode: its norms are folded and it has no gradients; "
                "train the model that it was made from, and call smidgen.optimize again"
            )
        super().train(False)
        return self


def _computing_in(dtype: NumberFormat, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext()


def _compile(detector: Any, backend: str | Callable[..., Any]) -> None:
    for stage in (detector.backbone, detector.neck):
        stage.compile(backend=backend, dynamic=False, **_compilations())


def _backend_name(compile: bool | str | Callable[..., Any]) -> str | None:
    if callable(compile):
        return getattr(compile, "__name__", type(compile).__name__)
    return "inductor" if compile is True else compile or None


def _compilations() -> dict[str, int]:
    """How many sizes to compile, for the versions of torch that can be told."""
    told = "recompile_limit" in inspect.signature(torch.compile).parameters
    return {"recompile_limit": MOST_COMPILATIONS} if told else {}


def _check(model: nn.Module, dtype: str, bucket_px: int | None) -> None:
    if isinstance(model, OptimizedDetector):
        raise ValueError("expected a model as it was trained, got one that is optimized; keep the original")
    missing = [part for part in ("preprocessing", "backbone", "neck", "readout") if not hasattr(model, part)]
    if missing:
        raise ValueError(
            f"expected a detector made of stages (DETR, DenseDetector or TwoStageDetector), got a "
            f"{type(model).__name__} without {', '.join(missing)}; use it as it is"
        )
    if any(module.training for module in model.modules()):
        raise ValueError(
            "expected a model in evaluation mode, whose norms no longer change, got one in training mode; "
            "call model.eval() first"
        )
    if dtype not in ("fp32", "bf16"):
        raise ValueError(f"expected dtype 'fp32' or 'bf16', got {dtype!r}; change --optimize")
    if bucket_px is not None and bucket_px < 1:
        raise ValueError(f"expected buckets of at least 1 px, got bucket_px={bucket_px}")
