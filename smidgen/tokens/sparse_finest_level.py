"""The second-finest level says where small objects are, and only there the finest level has tokens.

The cascade sparse query of Yang, Huang and Wang, "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution
Small Object Detection", CVPR 2022, section 3.3, brought to deformable encoders: a query map on stride 8 chooses cells,
and their 2 x 2 children on stride 4 become queries and values of the encoder, proposals, and values of the decoder.
All other tokens of the finest level are treated as if they were padding: an encoder for `Tokens.active` spends nothing
on them, they are never proposed, and attention reads zeros there unless the encoder has a stand-in.

How it differs from QueryDet: the choice is made in training, too, so that training is cheaper and both see the same
tokens; it is the best-scored share of each image's own cells, so that cost is known before the image is seen, sizes are
static and no device is asked (`threshold` drops cells within that share); the context is made of neighboring cells of
the query map, and is paid from the same budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.boxes import full_precision
from smidgen.nn.overwriting import rectified
from smidgen.nn.valid_cells import zero_in_padding, zero_padded
from smidgen.structures import ActiveTokens, FeaturePyramid, Memory, Tokens


@dataclass(frozen=True, slots=True)
class FinestLevel:
    """Evidence of a sparse finest level.

    logits: the query map on the second-finest level, which says how likely a small object is near; padding: its cells
    that show no image, whose logits mean nothing. cells: the cells that were chosen. chosen: the tokens of the finest
    level that this gave. share: per image, their share of the finest level's tokens that show it, in [0, 1].
    canvas_hw: size of the padded canvas in pixels, which the map spans.
    """

    logits: Float[Tensor, "B h w"]
    padding: Bool[Tensor, "B h w"]
    cells: Bool[Tensor, "B h w"]
    chosen: ActiveTokens
    share: Float[Tensor, " B"]
    canvas_hw: tuple[int, int]


@runtime_checkable
class EncoderOfActive(Protocol):
    """An encoder that refines the tokens of `Tokens.active`; stand_in: "zero" where attention reads nothing at the
    others.
    """

    @property
    def stand_in(self) -> str: ...

    def __call__(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory: ...


class FinestLevelQuery(nn.Module):
    """The query head: 3x3 convolution to a quarter of the width, ReLU, 3x3 convolution to one logit per cell.

    QueryDet's four layers of full width would cost more than the tokens they choose. Starts at probability `prior`
    (Lin et al., focal loss, 2017), since nearly all cells are background.
    """

    def __init__(self, width: int, prior: float = 0.01) -> None:
        super().__init__()
        self.hidden = _convolution(width, max(1, width // 4), bias=0.0)
        self.logit = _convolution(max(1, width // 4), 1, bias=_logit(prior))

    def forward(self, features: Float[Tensor, "B C h w"], padding: Bool[Tensor, "B h w"]) -> Float[Tensor, "B h w"]:
        """Logits; padded cells count as zero and their own logits mean nothing."""
        hidden = rectified(zero_in_padding(self.hidden(zero_padded(features, padding)), padding))
        logits: Tensor = self.logit(hidden)
        return logits[:, 0]


def _convolution(channels_in: int, channels: int, bias: float) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels, 3, padding=1)
    nn.init.xavier_normal_(layer.weight)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
    return layer


class SparseFinestLevel(nn.Module):
    """`encoder` over all tokens of the coarser levels and the chosen ones of the finest.

    query: (map of the second-finest level, its padding) -> logits, e.g. `FinestLevelQuery`.
    share: of each image's cells of the second-finest level, rounded up, that are chosen at most; so many tokens of the
    finest level are computed, too. context: every chosen cell takes its neighbors up to so many cells away along, the
    best cell and its neighbors first, until the share is used up. threshold: cells whose probability (with context, the
    best one around) is not above it are not chosen.
    """

    def __init__(
        self,
        query: nn.Module,
        encoder: EncoderOfActive,
        *,
        share: float = 0.05,
        context: int = 0,
        threshold: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < share <= 1 or context < 0 or not 0 <= threshold < 1:
            raise ValueError(
                "expected a share in (0, 1], a context of 0 or more cells and a threshold in [0, 1), got "
                f"share={share}, context={context}, threshold={threshold}; change model.sparse_finest"
            )
        self.query, self.encoder = query, encoder
        self.share = Fraction(share).limit_denominator(10**6)
        self.context, self.threshold = context, threshold

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        """Memory of all levels in which unchosen tokens of the finest propose nothing, with `FinestLevel`."""
        _check(tokens)
        padding = _padding_map(tokens, 1)
        logits: Tensor = self.query(tokens.unflatten(1), padding)
        cells = self._chosen_cells(logits, padding)
        shown = ~_padding_map(tokens, 0).flatten(1)
        taken = _children(cells, tokens.shapes[0]).flatten(1) & shown
        chosen = self._as_index(taken, cells.shape[1] * cells.shape[2])
        memory = self.encoder(replace(tokens, active=_with_coarser(chosen, tokens)), pyramid)
        share = taken.sum(dim=1) / shown.sum(dim=1).clamp(min=1)
        evidence = FinestLevel(logits, padding, cells, chosen, share, pyramid.canvas_hw)
        return self._hidden(memory, ~taken, evidence)

    def _hidden(self, memory: Memory, left_out: Bool[Tensor, "B n"], evidence: FinestLevel) -> Memory:
        """Unchosen tokens as padding: of the proposals always, of the decoder's values if they stand for zero.

        What is left is named by `active`, so that heads and value projections spend nothing on the rest.
        """
        proposing = _padded(memory.proposal_tokens, left_out)
        values = replace(memory.tokens, active=None)
        if self.encoder.stand_in == "zero":
            values = proposing if memory.tokens is memory.proposal_tokens else _padded(memory.tokens, left_out)
        return Memory(values, proposing, (*memory.evidence, evidence))

    @torch.no_grad()
    def _chosen_cells(self, logits: Float[Tensor, "B h w"], padding: Bool[Tensor, "B h w"]) -> Bool[Tensor, "B h w"]:
        score = full_precision(logits).masked_fill(padding, -torch.inf)
        best_around = _largest_around(score, self.context).masked_fill(padding, -torch.inf).flatten(1)
        index = self._order(score, padding).topk(_share_of(score[0].numel(), self.share), dim=1).indices
        # Summed into a column: OpenVINO 2026.4 gets arithmetic on one sum per image wrong.
        own = _shares_of((~padding).flatten(1).sum(dim=1, keepdim=True), self.share)
        taken = torch.arange(index.shape[1], device=index.device) < own
        taken = taken & (best_around.gather(1, index) > _logit(self.threshold))
        return torch.zeros_like(padding).flatten(1).scatter(1, index, taken).view_as(padding)

    def _order(self, score: Float[Tensor, "B h w"], padding: Bool[Tensor, "B h w"]) -> Tensor:
        """A number per cell, larger for cells that come first. Neighbors of a good cell follow right behind it."""
        if self.context == 0:
            return score.flatten(1)
        # Ranks instead of scores: no two cells are equal, so that the order cannot depend on ties.
        rank = score.flatten(1).argsort(dim=1).argsort(dim=1)
        best_around = _largest_around(rank.view(score.shape).float(), self.context).flatten(1).long()
        return (best_around * rank.shape[1] + rank).masked_fill(padding.flatten(1), -1)

    def _as_index(self, taken: Bool[Tensor, "B n"], num_cells: int) -> ActiveTokens:
        """At most four tokens per cell; the rest of the rows are other tokens of the level, as padding."""
        size = min(4 * _share_of(num_cells, self.share), taken.shape[1])
        # No two keys are equal: runtimes differ in what they do then.
        key = torch.arange(taken.shape[1], 0, -1, device=taken.device)
        index = torch.where(taken, key, -key).topk(size, dim=1).indices
        return ActiveTokens(index, ~taken.gather(1, index))

    @property
    def checkpoint_activations(self) -> bool:
        """Whether the encoder recomputes its layers in the backward pass."""
        return bool(self.encoder.checkpoint_activations)  # type: ignore[attr-defined]

    @checkpoint_activations.setter
    def checkpoint_activations(self, value: bool) -> None:
        self.encoder.checkpoint_activations = value  # type: ignore[attr-defined]


def _share_of(count: int, share: Fraction) -> int:
    """Rounded up."""
    return (count * share.numerator + share.denominator - 1) // share.denominator


def _shares_of(counts: Int[Tensor, "B 1"], share: Fraction) -> Int[Tensor, "B 1"]:
    """The same for every image, in integers, so that it is exact on any device."""
    return (counts * share.numerator + share.denominator - 1) // share.denominator


def _largest_around(values: Float[Tensor, "B h w"], reach: int) -> Float[Tensor, "B h w"]:
    return F.max_pool2d(values[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0] if reach else values


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf


def _padding_map(tokens: Tokens, level: int) -> Bool[Tensor, "B H W"]:
    padding = tokens.padding[:, tokens.starts[level] : tokens.starts[level + 1]]
    return padding.reshape(-1, *tokens.shapes[level])


def _children(cells: Bool[Tensor, "B h w"], shape: tuple[int, int]) -> Bool[Tensor, "B H W"]:
    """Cell (y, x) has the children (2y, 2x), (2y, 2x + 1), (2y + 1, 2x) and (2y + 1, 2x + 1), as far as they exist."""
    doubled = cells.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return doubled[:, : shape[0], : shape[1]]


def _with_coarser(chosen: ActiveTokens, tokens: Tokens) -> ActiveTokens:
    """The chosen tokens of the finest level, then all of the others."""
    start = tokens.starts[1]
    coarser = torch.arange(start, tokens.starts[-1], device=chosen.index.device).expand(chosen.index.shape[0], -1)
    padding = torch.cat([chosen.padding, tokens.padding[:, start:]], dim=1)
    return ActiveTokens(torch.cat([chosen.index, coarser], dim=1), padding)


def _padded(tokens: Tokens, left_out: Bool[Tensor, "B n"]) -> Tokens:
    start = tokens.starts[1]
    padding = torch.cat([tokens.padding[:, :start] | left_out, tokens.padding[:, start:]], dim=1)
    return replace(tokens, padding=padding)


def _check(tokens: Tokens) -> None:
    """Raise ValueError where there is no level to choose from, or its cells are not the parents of the finest's."""
    if len(tokens.shapes) < 2:
        raise ValueError(f"expected at least two levels to choose tokens of the finest, got {len(tokens.shapes)}")
    (rows, columns), coarser = tokens.shapes[:2]
    if ((rows + 1) // 2, (columns + 1) // 2) != coarser:
        raise ValueError(
            f"expected the second-finest level to have half the cells of the finest, rounded up, got {tokens.shapes}; "
            "change model.preprocessing.pad_multiple to 32"
        )
