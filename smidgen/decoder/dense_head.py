"""Heads that answer at every cell of a pyramid, or at chosen ones with the same weights.

Tsung-Yi Lin et al., "Focal Loss for Dense Object Detection" (RetinaNet), ICCV 2017, Section 4; Zhi Tian et al., "FCOS",
ICCV 2019, Section 3; the query head: Chenhongyi Yang, Zehao Huang, Naiyan Wang, "QueryDet", CVPR 2022, Section 3.2.
Initial values are those of the official QueryDet code. Unlike there, padded cells can be named and are then zero before
every layer, so that the size of the canvas changes no answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.convolution_tower import ConvolutionTower
from smidgen.nn.merged_batch_norm import MergedBatchNorm
from smidgen.nn.sparse_convolution import Branch, Kernel, on_cells, read
from smidgen.structures import Cells, LevelAnswers

PaddingOfLevels = Sequence[Tensor | None] | None


class DenseHead(nn.Module):
    """A class tower and a box tower of `num_layers` 3x3 convolutions, shared by all levels; A answers for each cell.

    num_anchors: A, 1 for points (FCOS). centerness: whether the box tower predicts it. regression: what turns the box
    prediction of a level into `LevelAnswers.regression`, `(raw "n A 4", level) -> "n A 4"`; None = nothing need be done
    (deltas to anchors), `ScaledDistances` for points. norm: makes the norm of a tower's layer; None = no norm. prior:
    initial probability of every class. Channels are ordered answer by answer: a * K + k and a * 4 + coordinate.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        num_anchors: int,
        num_layers: int = 4,
        centerness: bool = False,
        regression: nn.Module | None = None,
        norm: Callable[[int], MergedBatchNorm] | None = None,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.class_tower = ConvolutionTower(width, num_layers, norm)
        self.box_tower = ConvolutionTower(width, num_layers, norm)
        self.class_prediction = nn.Conv2d(width, num_anchors * num_classes, 3, padding=1)
        self.box_prediction = nn.Conv2d(width, num_anchors * 4, 3, padding=1)
        self.centerness_prediction = nn.Conv2d(width, num_anchors, 3, padding=1) if centerness else None
        self.regression = regression
        self._initialize(prior)

    def forward(
        self, features: Float[Tensor, "B C H W"], level: int = 0, padding: Bool[Tensor, "B H W"] | None = None
    ) -> LevelAnswers:
        """Answers of all cells of one level; level: its index (finest 0), which only `regression` looks at."""
        return self.on_levels([features], [padding], level)[0]

    def on_levels(
        self, levels: Sequence[Tensor], paddings: PaddingOfLevels = None, first_level: int = 0
    ) -> tuple[LevelAnswers, ...]:
        """Answers of all cells of levels, finest first: what training needs where a norm merges the levels.

        first_level: index of the first one. paddings: per level True at padded cells, or None.
        """
        paddings = [None] * len(levels) if paddings is None else paddings
        class_maps, box_maps = self.class_tower(levels, paddings), self.box_tower(levels, paddings)
        answers = []
        for index, (class_map, box_map) in enumerate(zip(class_maps, box_maps, strict=True), first_level):
            maps = [self.class_prediction(class_map)] + [predict(box_map) for predict in self._box_predictions()]
            rows = [read(prediction, None) for prediction in maps]
            batch, _, height, width = class_map.shape
            answers.append(self._answers(rows, (height, width), batch, index, None))
        return tuple(answers)

    def on_cells(self, features: Float[Tensor, "B C H W"], active: Cells, keys: Cells, level: int = 0) -> LevelAnswers:
        """Answers at the keys only, computed on the active cells, of which the keys are a part."""
        return self.answers(on_cells(features, self.branches(), active, keys), keys, level)

    def branches(self) -> tuple[Branch, ...]:
        """The head as convolutions, with the weights it has now."""
        boxes = tuple(Kernel.of(prediction) for prediction in self._box_predictions())
        classes = (Kernel.of(self.class_prediction),)
        return Branch(self.class_tower.kernels(), classes), Branch(self.box_tower.kernels(), boxes)

    def answers(self, outputs: Sequence[Float[Tensor, "n _"]], keys: Cells, level: int = 0) -> LevelAnswers:
        """What the branches' predictions at the keys say."""
        return self._answers(outputs, keys.shape, keys.batch, level, keys)

    def _answers(
        self,
        outputs: Sequence[Float[Tensor, "n _"]],
        shape: tuple[int, int],
        batch: int,
        level: int,
        cells: Cells | None,
    ) -> LevelAnswers:
        logits, regression = (rows.unflatten(1, (self.num_anchors, -1)) for rows in outputs[:2])
        regression = regression if self.regression is None else self.regression(regression, level)
        centerness = None if self.centerness_prediction is None else outputs[2]
        return LevelAnswers(logits, regression, centerness, shape, batch, cells)

    def _box_predictions(self) -> list[nn.Conv2d]:
        return [self.box_prediction] + ([] if self.centerness_prediction is None else [self.centerness_prediction])

    def _initialize(self, prior: float) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
        for tower in (self.class_tower, self.box_tower):
            _zero_biases(tower)
        # The box prediction keeps torch's initial bias, as in the official code.
        assert self.class_prediction.bias is not None
        nn.init.constant_(self.class_prediction.bias, -math.log((1 - prior) / prior))


class QueryHead(nn.Module):
    """Says of every cell whether a small object is near: its own tower and one logit, initially without a prior."""

    def __init__(self, width: int, num_layers: int = 4, norm: Callable[[int], MergedBatchNorm] | None = None) -> None:
        super().__init__()
        self.tower = ConvolutionTower(width, num_layers, norm)
        self.prediction = nn.Conv2d(width, 1, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)
        _zero_biases(self)

    def forward(
        self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"] | None = None
    ) -> Float[Tensor, "B H W"]:
        """Logits of all cells."""
        return self.on_levels([features], [padding])[0]

    def on_levels(self, levels: Sequence[Tensor], paddings: PaddingOfLevels = None) -> tuple[Tensor, ...]:
        """Logits of all cells of levels, one "B H W" map for each; paddings: as `DenseHead.on_levels` takes them."""
        paddings = [None] * len(levels) if paddings is None else paddings
        return tuple(self.prediction(level)[:, 0] for level in self.tower(levels, paddings))

    def on_cells(self, features: Float[Tensor, "B C H W"], active: Cells, keys: Cells) -> Float[Tensor, " n"]:
        """Logits at the keys only, computed on the active cells."""
        return on_cells(features, self.branches(), active, keys)[0][:, 0]

    def branches(self) -> tuple[Branch, ...]:
        """The head as convolutions, with the weights it has now."""
        return (Branch(self.tower.kernels(), (Kernel.of(self.prediction),)),)


class ScaledDistances(nn.Module):
    """Distances in pixels from a box prediction: stride x relu(scale x raw) or stride x exp(scale x raw).

    One learned scale for each level. "relu" is the later, official form of FCOS, "exp" that of its paper.
    """

    def __init__(self, strides: Sequence[int], form: str = "relu") -> None:
        super().__init__()
        if form not in ("relu", "exp"):
            raise ValueError(f'expected the form of distances to be "relu" or "exp", got {form!r}')
        self.strides, self.form = tuple(strides), form
        self.scales = nn.Parameter(torch.ones(len(self.strides)))

    def forward(self, raw: Float[Tensor, "n A 4"], level: int) -> Float[Tensor, "n A 4"]:
        """Distances to the left, top, right and bottom side in pixels of the network input; level: finest 0."""
        scaled = self.scales[level] * raw
        return (scaled.relu() if self.form == "relu" else scaled.exp()) * self.strides[level]


def _zero_biases(layers: nn.Module) -> None:
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
