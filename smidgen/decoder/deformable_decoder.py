"""Queries ask each other and the memory, layer by layer, and move their boxes (Zhu et al., Deformable DETR, ICLR 2021).

One decoder for the whole family: how positions are encoded, how boxes are refined and read, and whether attention is
told about box relations are parts that are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smidgen.nn.deformable_layers import DeformableDecoderLayer, scale_reference
from smidgen.structures import LayerAnswer, Predictions, Queries, Tokens


class QueryPosition(Protocol):
    """reference: the boxes or points this layer looks at; content: its input; layer: its index."""

    def __call__(
        self, queries: Queries, reference: Tensor, content: Tensor, tokens: Tokens, layer: int
    ) -> Float[Tensor, "B Q C"]: ...


class Refinement(Protocol):
    """(layer index, its output, the reference it attended, the base of its box) -> answer."""

    def __call__(self, layer: int, state: Tensor, reference: Tensor, base: Tensor) -> LayerAnswer: ...


class DeformableDecoder(nn.Module):
    """query_position, refinement: see their protocols. relation: (earlier boxes, later boxes) -> attention bias, or
    None.
    """

    def __init__(
        self,
        layer: Callable[[], DeformableDecoderLayer],
        num_layers: int,
        query_position: QueryPosition,
        refinement: Refinement,
        relation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(
                f"expected at least one decoder layer, got {num_layers}; change model.transformer.decoder_layers"
            )
        self.layers = nn.ModuleList(layer() for _ in range(num_layers))
        self.query_position = query_position
        self.refinement = refinement
        self.relation = relation
        self.checkpoint_activations = False

    def forward(self, queries: Queries, tokens: Tokens) -> tuple[Predictions, ...]:
        """One prediction per layer over all query rows."""
        blocked = attention_block(queries)
        state, reference, base = queries.content, queries.reference, queries.reference
        earlier, attention, layers = queries.reference, blocked, []
        for index, layer in enumerate(self.layers):
            position = self.query_position(queries, reference, state, tokens, index)
            scaled = scale_reference(reference, tokens.valid_share)
            values = (tokens.content, tokens.shapes, tokens.padding)
            arguments = (state, position, scaled, *values, attention, tokens.active)
            if self.checkpoint_activations and self.training:
                state = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                state = layer(*arguments)
            logits, boxes, reference, base = self.refinement(index, state, reference, base)
            layers.append(Predictions(logits, boxes, queries.padding))
            if self.relation is not None and index + 1 < len(self.layers):
                attention = _with_block(self.relation(earlier, boxes), blocked)
                earlier = boxes
        return tuple(layers)


def attention_block(queries: Queries) -> Bool[Tensor, "*B_1 Q Q"] | None:
    """True where a query may not attend: other groups, and rows that do not exist (which still see themselves)."""
    block = queries.attention_mask()
    if queries.padding is None:
        return block
    itself = torch.eye(queries.padding.shape[1], dtype=torch.bool, device=queries.padding.device)
    missing = (queries.padding[:, None, :] & ~itself)[:, None]
    return missing if block is None else missing | block


def _with_block(bias: Float[Tensor, "B heads Q Q"], block: Tensor | None) -> Float[Tensor, "B heads Q Q"]:
    return bias if block is None else bias.masked_fill(block, -torch.inf)
