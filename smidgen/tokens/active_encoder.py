"""A deformable encoder over the tokens that exist: linear layers and feed-forward run on active tokens only.

The layers are those of Zhu et al., "Deformable DETR", ICLR 2021, section 4.1; with all tokens active the result is that
of `tokens/deformable_encoder.py`, whose weights fit by name. Sizes are those of the index, so that no device is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smidgen.nn.deformable_layers import DeformableEncoderLayer, scale_reference
from smidgen.nn.token_rows import rows_of, with_rows
from smidgen.structures import ActiveTokens, FeaturePyramid, Memory, Tokens

StandIn: TypeAlias = Literal["zero", "projected"]


class ActiveEncoder(nn.Module):
    """`num_layers` layers made by `layer` over `tokens.active`; other tokens keep their content.

    stand_in: what attention reads at tokens that are not active. "zero": nothing; it costs nothing, it is what a
    padded cell holds, and the decoder can read from the gap that nothing was found there. "projected": their unrefined
    features, so that an active token reads real neighbors beyond the edge of its patch, for a dense value projection in
    each layer. queries: refine "all" active tokens, or those of the "finest" level, which the others then only serve as
    values.
    """

    def __init__(
        self,
        layer: Callable[[], DeformableEncoderLayer],
        num_layers: int,
        *,
        stand_in: StandIn = "zero",
        queries: Literal["all", "finest"] = "all",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer() for _ in range(num_layers))
        self.stand_in: StandIn = stand_in
        self.queries = queries
        self.checkpoint_activations = False

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        """Memory of the same tokens; the active ones of the finest level come first in the index."""
        active = tokens.active
        if active is None:
            raise ValueError("expected tokens of which some are active, got all: use DeformableEncoder for those")
        content, position = rows_of(tokens.content, active.index), rows_of(tokens.position, active.index)
        reference = scale_reference(rows_of(tokens.centers(), active.index), tokens.valid_share)
        for number in range(len(self.layers)):
            arguments = (number, content, position, reference, tokens, active)
            if self.checkpoint_activations and self.training:
                content = checkpoint(self._layer, *arguments, use_reentrant=False)
            else:
                content = self._layer(*arguments)
        return Memory.of(tokens.with_content(with_rows(tokens.content, active.index, content)))

    def _layer(
        self,
        number: int,
        content: Float[Tensor, "B A C"],
        position: Float[Tensor, "B A C"],
        reference: Float[Tensor, "B A L 2"],
        tokens: Tokens,
        active: ActiveTokens,
    ) -> Float[Tensor, "B A C"]:
        layer: Any = self.layers[number]
        asked = self._num_queries(tokens, active)
        before, values = content[:, :asked], self._values(layer, content, tokens, active)
        refined = layer.refine(before, position[:, :asked], reference[:, :asked], values, tokens.shapes)
        kept = torch.where(active.padding[:, :asked, None], before, refined)
        return kept if self.queries == "all" else torch.cat([kept, content[:, asked:]], dim=1)

    def _num_queries(self, tokens: Tokens, active: ActiveTokens) -> int:
        """All rows, or those before the rows of the coarser levels, all of whose tokens are active."""
        coarser = tokens.starts[-1] - tokens.starts[1] if self.queries == "finest" else 0
        return active.index.shape[1] - coarser

    def _values(
        self, layer: DeformableEncoderLayer, content: Tensor, tokens: Tokens, active: ActiveTokens
    ) -> Float[Tensor, "B N heads dim"]:
        if self.stand_in == "zero":
            return layer.attention.project_active(content, active, tokens.shapes)
        everything = with_rows(tokens.content, active.index, content)
        return layer.attention.project_value(everything, tokens.padding)
