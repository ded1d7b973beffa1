"""What heads say, what a detector returns, and the sets in which it is supervised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.structures.targets import Matches, Target


@dataclass(frozen=True, slots=True)
class Predictions:
    """Class logits (sigmoid, no background) and boxes in cxcywh of the image without its padding, in [0, 1].

    padding: True where a query does not exist (None = all exist).
    """

    logits: Float[Tensor, "B Q K"]
    boxes_cxcywh: Float[Tensor, "B Q 4"]
    padding: Bool[Tensor, "B Q"] | None = None

    def slice(self, start: int, stop: int) -> Predictions:
        """Queries start..stop of every image (views)."""
        padding = None if self.padding is None else self.padding[:, start:stop]
        return Predictions(self.logits[:, start:stop], self.boxes_cxcywh[:, start:stop], padding)


class LayerAnswer(NamedTuple):
    """What one decoder layer answers.

    reference: where the next layer attends. base: what the next layer's box is added to (it may carry gradient where
    `reference` does not).
    """

    logits: Float[Tensor, "B Q K"]
    boxes_cxcywh: Float[Tensor, "B Q 4"]
    reference: Float[Tensor, "B Q D"]
    base: Float[Tensor, "B Q D"]


@dataclass(frozen=True, slots=True)
class Proposals:
    """A class score and a box for every token of the memory (two-stage detectors).

    boxes_cxcywh: exactly 1 at invalid tokens. content: the projected, normalized token. valid: False at padded tokens
    and at those whose base box leaves (0.01, 0.99).
    """

    logits: Float[Tensor, "B N K"]
    boxes_cxcywh: Float[Tensor, "B N 4"]
    content: Float[Tensor, "B N C"]
    valid: Bool[Tensor, "B N"]

    def gather(self, index: Int[Tensor, "B Q"], padding: Bool[Tensor, "B Q"] | None = None) -> Predictions:
        """The predictions at these tokens."""
        rows = index[..., None]
        logits = self.logits.gather(1, rows.expand(-1, -1, self.logits.shape[-1]))
        return Predictions(logits, self.boxes_cxcywh.gather(1, rows.expand(-1, -1, 4)), padding)


@dataclass(frozen=True, slots=True)
class SupervisedSet:
    """One group of predictions with the objects it must explain: what a loss term sees.

    name: "final", "auxiliary", "proposals", "denoising", "one_to_many" ...; layer: decoder layer, None outside the
    decoder. targets: per image (a set may repeat them). normalizer: what sums are divided by.
    """

    name: str
    layer: int | None
    predictions: Predictions
    targets: tuple[Target, ...]
    matches: Matches
    normalizer: Tensor | float


@dataclass(frozen=True, slots=True)
class DenoisingPredictions:
    """Answers to the denoising queries of every decoder layer, with the matches known by construction."""

    layers: tuple[Predictions, ...]
    matches: Matches
    repeats: int


@dataclass(frozen=True, slots=True)
class OneToManyPredictions:
    """Answers of an extra group of queries, for which each object is repeated `repeats` times (H-DETR)."""

    layers: tuple[Predictions, ...]
    repeats: int


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """Everything one forward pass says.

    final: last decoder layer. auxiliary: earlier layers, first to last. proposals: the selected proposals, or every
    token's where a system supervises them all. token_index, level: where each matching query started (None for learned
    queries).
    """

    final: Predictions
    auxiliary: tuple[Predictions, ...] = ()
    proposals: Predictions | None = None
    denoising: DenoisingPredictions | None = None
    one_to_many: OneToManyPredictions | None = None
    token_index: Int[Tensor, "B Q"] | None = None
    level: Int[Tensor, "B Q"] | None = None
    evidence: tuple[object, ...] = ()
