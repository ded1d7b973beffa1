"""A trained detector as a graph from pixels to detections: what every exported file is made of.

Inputs: `pixels`, uint8 RGB "B 3 H W", images in the top left corner of a canvas, and `sizes_hw`, int64 "B 2", of each
image in it. Outputs: those of `FixedDetections`. Normalization, padding masks, box conversion, the choice of the best
and suppression belong to the graph, so that a user of the file has nothing to get wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from smidgen.decoder.dense_readout import DenseReadout
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.region_readout import RegionReadout
from smidgen.export.cell_answers import CellDetector
from smidgen.export.fixed_detections import FixedDetections
from smidgen.export.query_answers import QueryDetector
from smidgen.export.region_answers import RegionDetector
from smidgen.nn.deformable_attention import DeformableAttention
from smidgen.structures import ImageBatch

Sampling = Literal["grid", "gather"]

INPUTS = ("pixels", "sizes_hw")
OUTPUTS = FixedDetections._fields


@dataclass(frozen=True, slots=True)
class TracedDetector:
    """program: the graph. num_detections: rows of its answer. dynamic_size: whether other sizes may come."""

    program: torch.export.ExportedProgram
    num_detections: int
    dynamic_size: bool


class PixelsToDetections(nn.Module):
    """`detector`, one of the three families in fixed shapes, behind plain tensors."""

    def __init__(self, detector: QueryDetector | CellDetector | RegionDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: UInt8[Tensor, "B 3 H W"], sizes_hw: Int[Tensor, "B 2"]) -> tuple[Tensor, ...]:
        """Detections of each image: the fields of `FixedDetections` as a plain tuple, which any program can read."""
        rows = torch.arange(pixels.shape[2], device=pixels.device) >= sizes_hw[:, :1]
        columns = torch.arange(pixels.shape[3], device=pixels.device) >= sizes_hw[:, 1:]
        # The sizes as plain numbers, which only training and other readouts look at, are not known here.
        images = ImageBatch(pixels, rows[:, :, None] | columns[:, None], ())
        return tuple(self.detector(images, sizes_hw))


def in_fixed_shapes(model: Any, max_detections: int | None = None) -> PixelsToDetections:
    """The model with its readout in fixed shapes. max_detections: rows of the answer, None = what the readout gives.

    Errors: ValueError for a readout that has no such form.
    """
    readout = model.readout
    if isinstance(readout, TopScoring):
        return PixelsToDetections(QueryDetector(model, readout, max_detections or num_detections(model)))
    if isinstance(readout, DenseReadout):
        count = max_detections or num_detections(model)
        return PixelsToDetections(CellDetector(model, readout, len(model.classes), count))
    if isinstance(readout, RegionReadout):
        return PixelsToDetections(RegionDetector(model, readout, max_detections or num_detections(model)))
    raise ValueError(
        f"expected a readout that can be exported (TopScoring, DenseReadout, RegionReadout), got a "
        f"{type(readout).__name__}; give the detector one of these"
    )


def num_detections(model: Any) -> int:
    """Rows that the model's readout gives at most."""
    count = model.readout.num_detections
    return int(model.budget.largest if count is None else count)


def trace(
    model: nn.Module,
    canvas_hw: tuple[int, int],
    *,
    dynamic_size: bool = True,
    sampling: Sampling = "grid",
    max_detections: int | None = None,
) -> TracedDetector:
    """`torch.export` of the detector on an example of two images.

    canvas_hw: of the example; without `dynamic_size` the only one. sampling: how deformable attention reads its values,
    `grid_sample` or a gather of corners, for runtimes that get GridSample wrong. Errors: ValueError where the model
    cannot be traced.
    """
    detector = in_fixed_shapes(model, max_detections).eval()
    pixels = torch.randint(0, 256, (2, 3, *canvas_hw), dtype=torch.uint8)
    sizes_hw = torch.tensor([canvas_hw, (canvas_hw[0] - 1, canvas_hw[1] - 1)])
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free} if dynamic_size else {0: free}, {0: free})
    with torch.no_grad(), _sampled_by(model, sampling), _quiet():
        program = torch.export.export(detector, (pixels, sizes_hw), dynamic_shapes=shapes, strict=False)
    if dynamic_size:
        _check_open_ended(program, canvas_hw)
    return TracedDetector(program, detector.detector.num_detections, dynamic_size)


def _check_open_ended(program: torch.export.ExportedProgram, canvas_hw: tuple[int, int]) -> None:
    """ValueError where the trace holds for canvases of hardly more than the example's size: a map of one row or column
    is treated as a size of its own.
    """
    if any(bounds.upper < 1.25 * max(canvas_hw) for bounds in program.range_constraints.values()):
        raise ValueError(
            f"expected an example canvas on which every level has two cells a side, got {canvas_hw[0]}x{canvas_hw[1]}; "
            "use a larger --size, or --fixed-size"
        )


@contextmanager
def _sampled_by(model: nn.Module, sampling: Sampling) -> Iterator[None]:
    """The model's deformable attention by one method, and afterwards as before."""
    attention = [module for module in model.modules() if isinstance(module, DeformableAttention)]
    before = [module.method for module in attention]
    for module in attention:
        module.method = "gather" if sampling == "gather" else "grid_sample"
    try:
        yield
    finally:
        for module, method in zip(attention, before, strict=True):
            module.method = method


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes about what it could not simplify."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
