"""Encoder and decoder layers around multi-scale deformable attention (Zhu et al., Deformable DETR, ICLR 2021).

Post-norm, ReLU feed-forward. Queries, values and positions are explicit, so that a caller may refine any subset of
tokens.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.deformable_attention import DeformableAttention
from smidgen.nn.overwriting import rectified
from smidgen.structures import ActiveTokens


class FeedForward(nn.Module):
    """Two linear layers with ReLU between, dropout after each; Xavier weights."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "B Q C"]) -> Float[Tensor, "B Q C"]:
        """The update, without the residual."""
        return self.dropout(self.linear2(self.dropout(rectified(self.linear1(features)))))


class DeformableEncoderLayer(nn.Module):
    """x = norm(x + attention(x + position over values)); x = norm(x + feed_forward(x))."""

    def __init__(
        self, width: int, num_heads: int, num_levels: int, num_points: int, feed_forward: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, num_heads, num_levels, num_points)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, feed_forward, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        position: Float[Tensor, "B Q C"],
        reference: Float[Tensor, "B Q L 2"],
        value: Float[Tensor, "B N C"],
        shapes: tuple[tuple[int, int], ...],
        padding: Bool[Tensor, "B N"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """Refine `query` (any subset of tokens) by sampling `value` around `reference` (canvas coordinates per
        level).
        """
        return self.refine(query, position, reference, self.attention.project_value(value, padding), shapes)

    def refine(
        self,
        query: Float[Tensor, "B Q C"],
        position: Float[Tensor, "B Q C"],
        reference: Float[Tensor, "B Q L 2"],
        projected: Float[Tensor, "B N heads dim"],
        shapes: tuple[tuple[int, int], ...],
    ) -> Float[Tensor, "B Q C"]:
        """`forward` on values that `attention` has projected."""
        update = self.attention.read(query + position, reference, projected, shapes)
        query = self.attention_norm(query + self.dropout(update))
        return self.feed_forward_norm(query + self.feed_forward(query))


class DeformableDecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention over the memory, feed-forward; each with residual and norm."""

    def __init__(
        self, width: int, num_heads: int, num_levels: int, num_points: int, feed_forward: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, num_heads, dropout=dropout, batch_first=True)
        nn.init.xavier_uniform_(self.self_attention.in_proj_weight)
        nn.init.xavier_uniform_(self.self_attention.out_proj.weight)
        self.self_attention_norm = nn.LayerNorm(width)
        self.cross_attention = DeformableAttention(width, num_heads, num_levels, num_points)
        self.cross_attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, feed_forward, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        position: Float[Tensor, "B Q C"],
        reference: Float[Tensor, "B Q L D"],
        value: Float[Tensor, "B N C"],
        shapes: tuple[tuple[int, int], ...],
        padding: Bool[Tensor, "B N"] | None,
        attention: Float[Tensor, "B heads Q Q"] | Bool[Tensor, "*B_1 Q Q"] | None = None,
        active: ActiveTokens | None = None,
    ) -> Float[Tensor, "B Q C"]:
        """`attention`: added to the self-attention logits where floating, blocking where True if boolean. `active`: the
        values that exist, see DeformableAttention.
        """
        update = self._attend_to_queries(query, query + position, attention)
        query = self.self_attention_norm(query + self.dropout(update))
        update = self.cross_attention(query + position, reference, value, shapes, padding, active)
        query = self.cross_attention_norm(query + self.dropout(update))
        return self.feed_forward_norm(query + self.feed_forward(query))

    def _attend_to_queries(self, value: Tensor, query: Tensor, attention: Tensor | None) -> Tensor:
        if attention is not None and attention.ndim == 4:
            heads = self.self_attention.num_heads
            attention = attention.expand(-1, heads, -1, -1).flatten(0, 1)
        update: Tensor = self.self_attention(query, query, value, attn_mask=attention, need_weights=False)[0]
        return update


def scale_reference(reference: Float[Tensor, "B Q D"], valid_share: Float[Tensor, "B L 2"]) -> Float[Tensor, "B Q L D"]:
    """Points or boxes of the image without padding, in each level's canvas coordinates."""
    share = valid_share if reference.shape[-1] == 2 else torch.cat([valid_share, valid_share], dim=-1)
    return reference[:, :, None] * share[:, None]
