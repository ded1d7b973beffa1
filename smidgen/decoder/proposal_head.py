"""The first stage of Faster R-CNN: is there an object at this anchor, and how does its box differ.

Ren et al., "Faster R-CNN", 2015, section 3.1; on a pyramid as in Lin et al., "Feature Pyramid Networks", CVPR 2017,
section 4.1. In QueryDet (Yang et al., CVPR 2022, table 9) the query branch reads the same trunk, which has three
convolutions instead of one; all of it can be computed at chosen cells only. What the released code lacks is built as
detectron2's.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.convolution_tower import ConvolutionTower
from smidgen.nn.sparse_convolution import Branch, Kernel, read
from smidgen.structures import Cells, LevelAnswers

PaddingOfLevels = Sequence[Tensor | None] | None


def proposal_trunk(width: int, num_layers: int = 1) -> ConvolutionTower:
    """The convolutions that objectness, boxes and queries share; 1 in Faster R-CNN, 3 in QueryDet."""
    trunk = ConvolutionTower(width, num_layers)
    _initialize(trunk)
    return trunk


class ProposalHead(nn.Module):
    """Objectness (one class) and deltas of `num_anchors` anchors for each cell, by 1x1 convolutions on a trunk."""

    def __init__(self, trunk: ConvolutionTower, width: int, num_anchors: int) -> None:
        super().__init__()
        self.trunk, self.num_anchors = trunk, num_anchors
        self.objectness, self.deltas = nn.Conv2d(width, num_anchors, 1), nn.Conv2d(width, 4 * num_anchors, 1)
        _initialize(self.objectness)
        _initialize(self.deltas)

    def forward(
        self, features: Float[Tensor, "B C H W"], level: int = 0, padding: Bool[Tensor, "B H W"] | None = None
    ) -> LevelAnswers:
        """Answers of all cells of one level; its index changes nothing."""
        return self.on_levels([features], [padding], level)[0]

    def on_levels(
        self, levels: Sequence[Tensor], paddings: PaddingOfLevels = None, first_level: int = 0
    ) -> tuple[LevelAnswers, ...]:
        """Answers of all cells. paddings: per level True at padded cells, which are zero before every layer."""
        return self.on_trunk(self.trunk(levels, [None] * len(levels) if paddings is None else paddings))

    def on_trunk(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> tuple[LevelAnswers, ...]:
        """Answers of all cells from what the trunk made of the levels."""
        return tuple(self._on_map(level) for level in maps)

    def branches(self) -> tuple[Branch, ...]:
        """The head as convolutions, with the weights it has now."""
        return (Branch(self.trunk.kernels(), (Kernel.of(self.objectness), Kernel.of(self.deltas))),)

    def answers(self, outputs: Sequence[Float[Tensor, "n _"]], keys: Cells, level: int = 0) -> LevelAnswers:
        """What the predictions at the keys say."""
        return self._answers(outputs, keys.shape, keys.batch, keys)

    def _on_map(self, features: Float[Tensor, "B C H W"]) -> LevelAnswers:
        rows = [read(prediction(features), None) for prediction in (self.objectness, self.deltas)]
        return self._answers(rows, (features.shape[2], features.shape[3]), features.shape[0], None)

    def _answers(
        self, outputs: Sequence[Tensor], shape: tuple[int, int], batch: int, cells: Cells | None
    ) -> LevelAnswers:
        logits, deltas = (rows.unflatten(1, (self.num_anchors, -1)) for rows in outputs)
        return LevelAnswers(logits, deltas, None, shape, batch, cells)


class TrunkQueryHead(nn.Module):
    """Says of every cell whether a small object is near, by a 1x1 convolution on the trunk of a `ProposalHead`."""

    def __init__(self, trunk: ConvolutionTower, width: int) -> None:
        super().__init__()
        self.trunk, self.prediction = trunk, nn.Conv2d(width, 1, 1)
        _initialize(self.prediction)

    def forward(
        self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"] | None = None
    ) -> Float[Tensor, "B H W"]:
        """Logits of all cells."""
        return self.on_levels([features], [padding])[0]

    def on_levels(self, levels: Sequence[Tensor], paddings: PaddingOfLevels = None) -> tuple[Tensor, ...]:
        """Logits of all cells of levels, one "B H W" map for each."""
        return self.on_trunk(self.trunk(levels, [None] * len(levels) if paddings is None else paddings))

    def on_trunk(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> tuple[Tensor, ...]:
        """Logits of all cells from what the trunk made of the levels."""
        return tuple(self.prediction(level)[:, 0] for level in maps)

    def branches(self) -> tuple[Branch, ...]:
        """The head as convolutions, with the weights it has now."""
        return (Branch(self.trunk.kernels(), (Kernel.of(self.prediction),)),)


def _initialize(layers: nn.Module) -> None:
    """Normal with a deviation of 0.01, biases zero."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
