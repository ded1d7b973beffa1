"""What the decoder is asked: how many queries, where they start, what they contain, and who may see whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.structures.predictions import Predictions, Proposals
from smidgen.structures.targets import Matches
from smidgen.structures.tokens import Tokens


@dataclass(frozen=True, slots=True)
class QueryBudget:
    """How many queries to ask: `size` rows for the batch, of which image b uses the first per_image[b] (None = all)."""

    size: int
    per_image: Int[Tensor, " B"] | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where a selection puts the queries.

    reference: (cx, cy) or (cx, cy, w, h) in [0, 1] of the image without padding; detached where it is a proposal's,
    not where it is learned. token_index, level: the
    tokens they came from (None for learned places). content: the proposal's feature, not detached. predictions: the
    proposals' own answers, not detached, for their loss. padding: True where an image has fewer queries than its batch
    mates. position: a learned positional query, where the reference was made from one (one-stage Deformable DETR).
    """

    reference: Float[Tensor, "B Q D"]
    token_index: Int[Tensor, "B Q"] | None = None
    level: Int[Tensor, "B Q"] | None = None
    content: Float[Tensor, "B Q C"] | None = None
    predictions: Predictions | None = None
    padding: Bool[Tensor, "B Q"] | None = None
    position: Float[Tensor, "B Q C"] | None = None

    @staticmethod
    def of_tokens(
        proposals: Proposals, tokens: Tokens, index: Int[Tensor, "B Q"], padding: Bool[Tensor, "B Q"] | None = None
    ) -> Places:
        """Places at these tokens, with what the tokens propose."""
        selected = proposals.gather(index, padding)
        return Places(
            reference=selected.boxes_cxcywh.detach(),
            token_index=index,
            level=tokens.level_of_token(index),
            content=proposals.content.gather(1, index[..., None].expand(-1, -1, proposals.content.shape[-1])),
            predictions=selected,
            padding=padding,
        )


@dataclass(frozen=True, slots=True)
class QueryGroup:
    """A run of queries that share a purpose.

    kind: "matching" (assigned one to one), "denoising" or "one_to_many". size: queries per repeat; the group spans
    size * repeats rows, and repeats of a denoising group do not see each other. known_matches: matches by construction.
    target_repeats: how often each object stands among the targets of a one-to-many group; its rows are not repeated.
    """

    kind: Literal["matching", "denoising", "one_to_many"]
    size: int
    repeats: int = 1
    known_matches: Matches | None = None
    target_repeats: int = 1

    @property
    def span(self) -> int:
        """Number of query rows."""
        return self.size * self.repeats


@dataclass(frozen=True, slots=True)
class Queries:
    """Rows for the decoder, group after group; the groups' spans add up to Q.

    reference, position, padding, token_index, level: as in `Places`, over all rows (token_index -1 where there is
    none).
    """

    content: Float[Tensor, "B Q C"]
    reference: Float[Tensor, "B Q D"]
    position: Float[Tensor, "B Q C"] | None = None
    token_index: Int[Tensor, "B Q"] | None = None
    level: Int[Tensor, "B Q"] | None = None
    padding: Bool[Tensor, "B Q"] | None = None
    groups: tuple[QueryGroup, ...] = field(default=())

    def attention_mask(self) -> Bool[Tensor, "Q Q"] | None:
        """True = row may not attend to column; None when there is one group only.

        Matching queries see no denoising queries; repeats of a denoising group are isolated from each other and see the
        matching queries; a one-to-many group and the matching queries do not see each other.
        """
        if len(self.groups) <= 1 and all(group.repeats == 1 for group in self.groups):
            return None
        block = torch.cat(
            [
                torch.arange(group.span, device=self.content.device) // group.size + 1000000 * index
                for index, group in enumerate(self.groups)
            ]
        )
        denoising, matching = self._rows_of("denoising"), self._rows_of("matching")
        return (block[:, None] != block[None, :]) & ~(denoising[:, None] & matching[None, :])

    def _rows_of(self, kind: str) -> Bool[Tensor, " Q"]:
        # Filled on the device: copying a list of rows there would make the host wait.
        device = self.content.device
        return torch.cat([torch.full((group.span,), group.kind == kind, device=device) for group in self.groups])

    @staticmethod
    def join(parts: Sequence[Queries]) -> Queries:
        """Concatenate groups in order; parts without padding, position or origin are filled with nothing of them."""
        first = parts[0]
        if len(parts) == 1:
            return first
        sizes = [part.content.shape[:2] for part in parts]
        device = first.content.device

        def rows(values: list[Tensor | None], empty: list[Tensor]) -> Tensor | None:
            if all(value is None for value in values):
                return None
            return torch.cat(
                [spare if value is None else value for value, spare in zip(values, empty, strict=True)], dim=1
            )

        no_padding = [torch.zeros(size, dtype=torch.bool, device=device) for size in sizes]
        no_origin = [torch.full(size, -1, dtype=torch.long, device=device) for size in sizes]
        return Queries(
            content=torch.cat([part.content for part in parts], dim=1),
            reference=torch.cat([part.reference for part in parts], dim=1),
            position=rows([part.position for part in parts], [torch.zeros_like(part.content) for part in parts]),
            token_index=rows([part.token_index for part in parts], no_origin),
            level=rows([part.level for part in parts], no_origin),
            padding=rows([part.padding for part in parts], no_padding),
            groups=tuple(group for part in parts for group in part.groups),
        )
