"""What queries contain is mixed for each image out of a few patterns that all queries share.

"PaQ-DETR", CVPR 2026 (arXiv 2603.06917), pattern-shared dynamic query generation: a descriptor z of the image, a
two-layer network and a softmax over m patterns P give the weights W, and W P is the content of the queries; where they
stand is not touched. Every pattern so learns from every query that uses it. The paper has no public code. Its cost
table (+1.8 M parameters) has no room for a dense second layer (34.7 M), so the default is a factorized one.

In two parts, because content stages return content alone: `PatternMixing`, a stage on the memory, leaves the weights of
all rows as evidence (B n m numbers: 0.5 MB per image for 900 queries and 150 patterns), from which `PatternContent`
takes as many rows as the image's budget has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.boxes import full_precision
from smidgen.nn.image_descriptor import (
    ExtractorNorm,
    FusionStep,
    fuse_top_down,
    level_extractions,
    mean_of_valid_tokens,
)
from smidgen.nn.initialize import xavier_linear
from smidgen.nn.mlp import MLP
from smidgen.structures import FeaturePyramid, Memory, Places, Tokens, evidence_of


@dataclass(frozen=True, slots=True)
class PatternWeights:
    """Evidence of the mixing.

    weights: the share of each pattern in each query, for all rows there are; rows are >= 0 and sum to 1. patterns: as
    wide as a query.
    """

    weights: Float[Tensor, "B n m"]
    patterns: Float[Tensor, "m C"]


class WeightHead(Protocol):
    """A vector per image to logits of num_rows queries over num_columns patterns (nn/conditioned_table.py)."""

    num_rows: int
    num_columns: int

    def __call__(self, vector: Tensor) -> Tensor: ...


class PatternMixing(nn.Module):
    """A stage after the encoder: describes the image and leaves `PatternWeights`. The gradient reaches the encoder.

    head: `FactorizedTable` or `DenseTable` of queries x patterns. temperature: of the softmax. keep_indicator: patterns
    are one channel narrower, and queries end with DN-DETR's zero.
    fusion: "top_down", or "mean" of all tokens and two linear layers (the authors' first version). The other options
    are those of "top_down" (nn/image_descriptor.py): extractor_width, channels between its convolutions; dilations, of
    each level, finest first (None = 1, 2, 4 ...); extractor_norm; fusion_attention; fusion_skip.
    """

    def __init__(
        self,
        head: WeightHead,
        width: int,
        num_levels: int,
        *,
        extractor_width: int = 160,
        dilations: Sequence[int] | None = None,
        extractor_norm: ExtractorNorm = "none",
        fusion: Literal["top_down", "mean"] = "top_down",
        fusion_attention: Literal["eca+coord", "none"] = "eca+coord",
        fusion_skip: bool = True,
        temperature: float = 1.0,
        keep_indicator: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.keep_indicator = _positive(temperature), keep_indicator
        if fusion == "mean":
            self.project = MLP(width, width, width)
        else:
            self.extract = level_extractions(width, num_levels, extractor_width, dilations, extractor_norm)
            attention = fusion_attention == "eca+coord"
            self.fuse = nn.ModuleList(FusionStep(width, attention, fusion_skip) for _ in range(num_levels - 1))
        self.fusion = fusion
        self.fc1 = xavier_linear(width, width)
        self.ln = nn.LayerNorm(width)
        self.head = head
        self.patterns = nn.Parameter(torch.randn(head.num_columns, width - keep_indicator))

    def forward(self, memory: Memory, pyramid: FeaturePyramid) -> Memory:
        """The same memory with one more piece of evidence; the pyramid is not read."""
        weights = self.weights(self.descriptor(memory.tokens))
        patterns = F.pad(self.patterns, (0, 1)) if self.keep_indicator else self.patterns
        return replace(memory, evidence=(*memory.evidence, PatternWeights(weights, patterns)))

    def descriptor(self, tokens: Tokens) -> Float[Tensor, "B C"]:
        """The image in one vector."""
        if self.fusion == "mean":
            return self.project(mean_of_valid_tokens(tokens.content, tokens.padding))
        self._check(tokens)
        finest, padding = fuse_top_down(tokens, self.extract, self.fuse)
        return mean_of_valid_tokens(finest.flatten(2).transpose(1, 2), padding.flatten(1))

    def weights(self, descriptor: Float[Tensor, "B C"]) -> Float[Tensor, "B n m"]:
        """Of every pattern in every query."""
        return mixing_weights(self.head(self.hidden(descriptor)), self.temperature)

    def hidden(self, descriptor: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """First layer of the two."""
        return F.relu(self.ln(self.fc1(descriptor)))

    def _check(self, tokens: Tokens) -> None:
        if len(tokens.shapes) != len(self.extract):
            raise ValueError(
                f"expected memory of {len(self.extract)} levels, got {len(tokens.shapes)}; build PatternMixing with "
                "the model's num_levels"
            )


class PatternContent(nn.Module):
    """The first Q rows of the mixed patterns, wherever the queries are placed. Without parameters."""

    def forward(self, memory: Memory, places: Places) -> Float[Tensor, "B Q C"]:
        """Convex combinations of the patterns, in the patterns' type."""
        return _mixed(memory, places)


class PatternAndLearnedContent(nn.Module):
    """The mixed patterns and a learned row of each query's own (zero at first), added. An extension of ours."""

    def __init__(self, num_queries: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_queries, width)
        nn.init.zeros_(self.table.weight)

    def forward(self, memory: Memory, places: Places) -> Float[Tensor, "B Q C"]:
        """The first Q rows of both."""
        mixed = _mixed(memory, places)
        _check_rows(mixed.shape[1], self.table.num_embeddings)
        return mixed + self.table.weight[: mixed.shape[1]]


def mixing_weights(logits: Float[Tensor, "*rows m"], temperature: float = 1.0) -> Float[Tensor, "*rows m"]:
    """Softmax over the patterns, in float32 or better under mixed precision, too."""
    return (full_precision(logits) / temperature).softmax(dim=-1)


def _mixed(memory: Memory, places: Places) -> Float[Tensor, "B Q C"]:
    mixing = evidence_of(memory.evidence, PatternWeights)
    if mixing is None:
        raise ValueError(
            "expected evidence of pattern weights, got none: give the detector an encoder with a PatternMixing stage "
            "(StagedEncoder), or another content"
        )
    num_queries = places.reference.shape[1]
    _check_rows(num_queries, mixing.weights.shape[1])
    return (mixing.weights[:, :num_queries] @ mixing.patterns).to(mixing.patterns.dtype)


def _check_rows(num_queries: int, num_rows: int) -> None:
    if num_queries > num_rows:
        raise ValueError(
            f"expected at most {num_rows} queries where as many rows are mixed or learned, got {num_queries}; "
            "raise model.num_queries"
        )


def _positive(temperature: float) -> float:
    if temperature <= 0:
        raise ValueError(f"expected a positive temperature, got {temperature}; change model.patterns.temperature")
    return temperature
