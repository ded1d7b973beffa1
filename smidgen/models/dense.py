"""The skeleton of the dense family: a pyramid whose every cell answers, finer levels only where queries point.

ImageBatch -> FeaturePyramid -> DenseOutput (answers of each level) -> Detections
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from smidgen.decoder.cascaded_head import QueryMethod, answers_and_queries, run_cascade, sparse_query
from smidgen.nn.shapes_only import has_values
from smidgen.nn.sparse_convolution import Branch
from smidgen.structures import (
    Cells,
    Classes,
    DenseOutput,
    Detections,
    FeaturePyramid,
    ImageBatch,
    LevelAnswers,
    Preprocessing,
    Target,
)
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery


class Backbone(Protocol):
    """Normalized images to raw maps of several strides."""

    def __call__(self, images: ImageBatch) -> FeaturePyramid: ...


class Neck(Protocol):
    """Raw maps to maps of one width, with the detector's levels."""

    def __call__(self, pyramid: FeaturePyramid) -> FeaturePyramid: ...


class Head(Protocol):
    """Answers of all cells of one level or of several, or at chosen cells; the weights are the same everywhere."""

    def __call__(self, features: Tensor, level: int = 0, padding: Tensor | None = None) -> LevelAnswers: ...

    def on_levels(
        self, levels: Sequence[Tensor], paddings: Sequence[Tensor | None] | None = None, first_level: int = 0
    ) -> tuple[LevelAnswers, ...]: ...

    def branches(self) -> tuple[Branch, ...]: ...

    def answers(self, outputs: Sequence[Tensor], keys: Cells, level: int = 0) -> LevelAnswers: ...


class QueryMaps(Protocol):
    """Of every cell, whether a small object is near."""

    def on_levels(
        self, levels: Sequence[Tensor], paddings: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, ...]: ...

    def branches(self) -> tuple[Branch, ...]: ...


class Readout(Protocol):
    """Output to detections in original pixels."""

    def __call__(
        self, output: DenseOutput, original_hw: Sequence[tuple[int, int]], classes: Classes
    ) -> list[Detections]: ...


@dataclass(frozen=True)
class Querying:
    """How small objects choose what is computed: the head that points at them, and what follows from it.

    supervised: indices of the levels whose query maps are taught. cascade: None = everything is computed. method: of
    computing the chosen cells.
    """

    head: QueryMaps
    supervised: tuple[int, ...] = (1, 2)
    cascade: CascadeSparseQuery | None = None
    method: QueryMethod = sparse_query


class DenseDetector(nn.Module):
    """A detector whose cells answer. see_padding: whether heads read the values of padded cells (official codes)."""

    name: str
    config: Any
    classes: Classes

    def __init__(
        self,
        *,
        preprocessing: Preprocessing,
        backbone: Backbone,
        neck: Neck,
        head: Head,
        readout: Readout,
        querying: Querying | None = None,
        see_padding: bool = False,
    ) -> None:
        super().__init__()
        self.preprocessing, self.backbone, self.neck = preprocessing, backbone, neck
        self.head, self.readout = head, readout
        self.querying, self.query_head = querying, None if querying is None else querying.head
        self.see_padding = see_padding

    def forward(self, images: ImageBatch, targets: Sequence[Target] | None = None) -> DenseOutput:
        """What the network says of the images: of all cells in training (or with `targets`), by the cascade else."""
        pyramid = self.neck(self.backbone(images.normalized(self.preprocessing)))
        return self.decode(pyramid, images.sizes, supervised=self.training or targets is not None)

    def decode(
        self, pyramid: FeaturePyramid, sizes_hw: tuple[tuple[int, int], ...], *, supervised: bool = False
    ) -> DenseOutput:
        """From maps of one width on; supervised: all cells and the query maps that are taught."""
        paddings = None if self.see_padding else pyramid.padding
        return heads_on(pyramid, sizes_hw, self.head, self.querying, paddings, supervised)

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        """Best-scoring boxes of each image in pixels of the original image of size `original_hw`."""
        return self.readout(self(images), original_hw, self.classes)


def heads_on(
    pyramid: FeaturePyramid,
    sizes_hw: tuple[tuple[int, int], ...],
    head: Head,
    querying: Querying | None,
    paddings: Sequence[Tensor] | None,
    supervised: bool,
) -> DenseOutput:
    """Heads on a pyramid: at all cells where the answers are supervised or nothing chooses, else by the cascade.

    paddings: per level True at cells that no head reads; None = all are read.
    """
    cascade = None if querying is None else querying.cascade
    if supervised:
        return _taught(pyramid, sizes_hw, head, querying, paddings)
    if querying is None or cascade is None or not has_values(pyramid.levels[0]):
        return _everywhere(pyramid, sizes_hw, head, paddings)
    found = run_cascade(pyramid.levels, head, querying.head, cascade, method=querying.method, paddings=paddings)
    return DenseOutput(
        found.levels, pyramid.strides, pyramid.canvas_hw, sizes_hw, found.query_logits, (found.computed,)
    )


def _everywhere(
    pyramid: FeaturePyramid,
    sizes_hw: tuple[tuple[int, int], ...],
    head: Head,
    paddings: Sequence[Tensor] | None,
) -> DenseOutput:
    """All cells, level by level."""
    hidden: Sequence[Tensor | None] = [None] * len(pyramid.levels) if paddings is None else paddings
    levels = zip(pyramid.levels, hidden, strict=True)
    answers = tuple(head(features, level=level, padding=padding) for level, (features, padding) in enumerate(levels))
    return DenseOutput(answers, pyramid.strides, pyramid.canvas_hw, sizes_hw)


def _taught(
    pyramid: FeaturePyramid,
    sizes_hw: tuple[tuple[int, int], ...],
    head: Head,
    querying: Querying | None,
    paddings: Sequence[Tensor] | None,
) -> DenseOutput:
    """All cells and the query maps. All levels at once, since a norm may merge their statistics."""
    if querying is None:
        return DenseOutput(head.on_levels(pyramid.levels, paddings), pyramid.strides, pyramid.canvas_hw, sizes_hw)
    hidden: Sequence[Tensor | None] = [None] * len(pyramid.levels) if paddings is None else paddings
    taught = querying.supervised
    answers, maps = answers_and_queries(head, querying.head, pyramid.levels, hidden, taught)
    query_logits = tuple(zip(taught, maps, strict=True))
    return DenseOutput(answers, pyramid.strides, pyramid.canvas_hw, sizes_hw, query_logits)
