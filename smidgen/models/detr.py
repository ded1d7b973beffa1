"""The skeleton of the DETR family: eight stages, each a part that is passed in.

ImageBatch -> FeaturePyramid -> Tokens -> Memory -> Places -> Queries -> Predictions (one per layer) -> Detections
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from smidgen.models import PARTS
from smidgen.structures import (
    Classes,
    DenoisingPredictions,
    Detections,
    DetectorOutput,
    FeaturePyramid,
    ImageBatch,
    Memory,
    OneToManyPredictions,
    Places,
    Predictions,
    Preprocessing,
    Proposals,
    Queries,
    QueryBudget,
    QueryGroup,
    Target,
    Tokens,
)


class Backbone(Protocol):
    """Normalized images to raw maps of several strides."""

    def __call__(self, images: ImageBatch) -> FeaturePyramid: ...


class Neck(Protocol):
    """Raw maps to maps of one width."""

    def __call__(self, pyramid: FeaturePyramid) -> FeaturePyramid: ...


class Encoder(Protocol):
    """Tokens (and the pyramid they came from) to memory and evidence."""

    def __call__(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory: ...


class ProposalStage(Protocol):
    """A class score and a box for every token."""

    def __call__(self, tokens: Tokens) -> Proposals: ...


class Budget(Protocol):
    """How many queries each image gets."""

    def __call__(self, memory: Memory) -> QueryBudget: ...


class Selection(Protocol):
    """Where they start."""

    def __call__(self, memory: Memory, proposals: Proposals | None, budget: QueryBudget) -> Places: ...


class Content(Protocol):
    """What they contain."""

    def __call__(self, memory: Memory, places: Places) -> Tensor: ...


class Denoising(Protocol):
    """Extra queries made of noised objects, in training."""

    def __call__(self, targets: Sequence[Target], noise: Any = None) -> Queries: ...


class OneToMany(Protocol):
    """Extra queries at further places, several for each object, in training."""

    def __call__(self, memory: Memory, proposals: Proposals | None, places: Places) -> Queries: ...


class Decoder(Protocol):
    """Queries to predictions, one per layer."""

    def __call__(self, queries: Queries, tokens: Tokens) -> tuple[Predictions, ...]: ...


class Readout(Protocol):
    """Output to detections in original pixels."""

    def __call__(
        self, output: DetectorOutput, original_hw: Sequence[tuple[int, int]], classes: Classes
    ) -> list[Detections]: ...


class DETR(nn.Module):
    """A detector made of stages. One-stage detectors have no `proposals`; those without `denoising` or `one_to_many`
    train without them, and none detects with them.
    """

    name: str
    config: Any
    classes: Classes

    def __init__(
        self,
        *,
        preprocessing: Preprocessing,
        backbone: Backbone,
        neck: Neck,
        flatten: nn.Module,
        encoder: Encoder,
        budget: Budget,
        selection: Selection,
        content: Content,
        decoder: Decoder,
        readout: Readout,
        proposals: ProposalStage | None = None,
        denoising: Denoising | None = None,
        one_to_many: OneToMany | None = None,
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.backbone, self.neck, self.flatten, self.encoder = backbone, neck, flatten, encoder
        self.proposals, self.budget, self.selection, self.content = proposals, budget, selection, content
        self.denoising, self.one_to_many = denoising, one_to_many
        self.decoder, self.readout = decoder, readout

    def forward(self, images: ImageBatch, targets: Sequence[Target] | None = None, noise: Any = None) -> DetectorOutput:
        """Everything the network says of the images; with `targets` (training) denoising and one-to-many queries
        are asked, too.
        """
        pyramid = self.neck(self.backbone(images.normalized(self.preprocessing)))
        denoised = None if targets is None or self.denoising is None else self.denoising(targets, noise)
        return self.decode(pyramid, denoised, one_to_many=targets is not None)

    def decode(
        self, pyramid: FeaturePyramid, denoised: Queries | None = None, *, one_to_many: bool = False
    ) -> DetectorOutput:
        """From equal-width maps on; `denoised` queries go in front of the selected ones, those of the stage
        `one_to_many`, if it is asked for, behind them.
        """
        memory = self.encoder(self.flatten(pyramid), pyramid)
        proposals = None if self.proposals is None else self.proposals(memory.proposal_tokens)
        places = self.selection(memory, proposals, self.budget(memory))
        parts = [] if denoised is None else [denoised]
        parts.append(as_queries(places, self.content(memory, places)))
        if one_to_many and self.one_to_many is not None:
            parts.append(self.one_to_many(memory, proposals, places))
        queries = Queries.join(parts)
        return collect(self.decoder(queries, memory.tokens), queries, places, memory)

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        """Best-scoring boxes of each image in pixels of the original image of size `original_hw`."""
        return self.readout(self(images), original_hw, self.classes)

    def enable_activation_checkpointing(self) -> None:
        """Recompute encoder and decoder layers in the backward pass: less memory, about a third more time."""
        for stage in (self.encoder, self.decoder):
            stage.checkpoint_activations = True  # type: ignore[union-attr]


def as_queries(places: Places, content: Tensor) -> Queries:
    """The matching group: one query per place."""
    group = QueryGroup("matching", content.shape[1])
    return Queries(
        content, places.reference, places.position, places.token_index, places.level, places.padding, (group,)
    )


def collect(layers: tuple[Predictions, ...], queries: Queries, places: Places, memory: Memory) -> DetectorOutput:
    """Split the rows of every layer by query group."""
    rows: dict[str, tuple[Predictions, ...]] = {}
    groups: dict[str, QueryGroup] = {group.kind: group for group in queries.groups}
    start = 0
    for group in queries.groups:
        rows[group.kind] = tuple(layer.slice(start, start + group.span) for layer in layers)
        start += group.span
    matching = rows["matching"]
    return DetectorOutput(
        final=matching[-1],
        auxiliary=matching[:-1],
        proposals=places.predictions,
        denoising=_denoising(rows, groups),
        one_to_many=_one_to_many(rows, groups),
        token_index=places.token_index,
        level=places.level,
        evidence=memory.evidence,
    )


def _denoising(
    rows: Mapping[str, tuple[Predictions, ...]], groups: Mapping[str, QueryGroup]
) -> DenoisingPredictions | None:
    group = groups.get("denoising")
    if group is None or group.known_matches is None:
        return None
    return DenoisingPredictions(rows["denoising"], group.known_matches, group.repeats)


def _one_to_many(
    rows: Mapping[str, tuple[Predictions, ...]], groups: Mapping[str, QueryGroup]
) -> OneToManyPredictions | None:
    group = groups.get("one_to_many")
    return None if group is None else OneToManyPredictions(rows["one_to_many"], group.target_repeats)


def with_parts(stages: dict[str, Any], config: Any) -> dict[str, Any]:
    """Replace stages by the registered parts that `config.parts` names (see `smidgen.register_part`)."""
    for stage, part in config.parts.items():
        if stage not in stages:
            raise ValueError(f"expected a stage out of {', '.join(stages)} in model.parts, got {stage!r}")
        if (stage, part) not in PARTS:
            known = sorted(name for kind, name in PARTS if kind == stage)
            raise ValueError(
                f"expected a registered {stage} part ({', '.join(known) or 'none is registered'}), got {part!r}; "
                "call smidgen.register_part first (on the command line: --plugin MODULE)"
            )
        stages[stage] = PARTS[stage, part](config)
    return stages
