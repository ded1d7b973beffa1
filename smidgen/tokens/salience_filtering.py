"""The encoder refines the salient tokens only: fewer on fine levels, fewer in deep layers.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024,
section 3.2. As in the official code, and unlike equation 4, the values that tokens attend to are the encoder's input in
every layer, and the best tokens attend to each other densely before each layer (from Focus-DETR).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smidgen.nn.deformable_layers import DeformableEncoderLayer, scale_reference
from smidgen.nn.token_rows import rows_of, with_rows
from smidgen.structures import ActiveTokens, FeaturePyramid, Memory, Tokens


@dataclass(frozen=True, slots=True)
class SalienceMaps:
    """Evidence of salience filtering.

    logits: per level, finest first. refined: per encoder layer, the tokens it refined, most salient first.
    canvas_hw: size of the padded canvas in pixels, which the maps span.
    """

    logits: tuple[Float[Tensor, "B _ _"], ...]
    refined: tuple[ActiveTokens, ...]
    canvas_hw: tuple[int, int]


class SharedProposals(Protocol):
    """What the encoder uses of the detector's proposal stage."""

    @property
    def class_head(self) -> Callable[[Tensor], Tensor]: ...

    def project(self, tokens: Tokens) -> Float[Tensor, "B N C"]: ...


class AttentionAmongBest(nn.Module):
    """Dense self-attention among the `best` tokens of a selection, with residual and norm."""

    def __init__(self, width: int, num_heads: int, best: int = 300, dropout: float = 0.0) -> None:
        super().__init__()
        if best < 1:
            raise ValueError(f"expected at least one token to attend densely, got {best}")
        self.best, self.dropout = best, nn.Dropout(dropout)
        self.attention = nn.MultiheadAttention(width, num_heads, dropout=dropout, batch_first=True)
        nn.init.xavier_uniform_(self.attention.in_proj_weight)
        nn.init.xavier_uniform_(self.attention.out_proj.weight)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        query: Float[Tensor, "B A C"],
        position: Float[Tensor, "B A C"],
        score: Float[Tensor, "B A"],
        padding: Bool[Tensor, "B A"] | None,
    ) -> Float[Tensor, "B A C"]:
        """`query` with the tokens of highest `score` replaced; padding tokens are attended by none."""
        if padding is not None:
            score = score.masked_fill(padding, -torch.inf)
        index = score.topk(min(self.best, score.shape[1]), dim=1).indices
        chosen, encoding = rows_of(query, index), rows_of(position, index)
        hidden = None if padding is None else padding.gather(1, index)
        attending = chosen + encoding
        update = self.attention(attending, attending, chosen, key_padding_mask=hidden, need_weights=False)[0]
        return with_rows(query, index, self.norm(chosen + self.dropout(update)))


class SalienceFilteredEncoder(nn.Module):
    """Layers made by `layer`, each preceded by one made by `among_best` (None = by none), over the most salient tokens.

    salience: tokens to logit maps. background: embeds the tokens that the last layer does not refine (None = leaves
    them). proposals: the detector's own proposal stage, whose projection and class head judge tokens here, too.
    level_ratios: share of each level's cells that is kept, finest first; layer_ratios: share of those that each layer
    refines. best_by: the dense attention takes the tokens with the largest product of class and salience "logits"
    (official: two low values make a high product), or of the two "probabilities". values: what tokens attend to, the
    encoder's "input" in every layer (official), or the tokens as "refined" so far (equation 4).
    per_batch: official quotas: the fullest image's for every image, surplus and padded tokens taking part in the
    attention without being written. By default each image has its own quotas.
    """

    def __init__(
        self,
        layer: Callable[[], DeformableEncoderLayer],
        among_best: Callable[[], AttentionAmongBest] | None,
        *,
        salience: Callable[[Tokens], tuple[Float[Tensor, "B _ _"], ...]],
        proposals: SharedProposals,
        background: nn.Module | None,
        level_ratios: Sequence[float] = (0.4, 0.8, 1.0, 1.0),
        layer_ratios: Sequence[float] = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2),
        best_by: Literal["logits", "probabilities"] = "logits",
        values: Literal["input", "refined"] = "input",
        per_batch: bool = False,
    ) -> None:
        super().__init__()
        self.salience, self.background = salience, background
        # In a tuple: these weights belong to the detector's proposal stage and stand in its state dict once.
        self._proposals = (proposals,)
        self.layers = nn.ModuleList(layer() for _ in layer_ratios)
        self.among_best = nn.ModuleList([among_best() for _ in layer_ratios] if among_best else [])
        self.level_ratios = _checked(level_ratios, "level")
        self.layer_ratios = _checked(layer_ratios, "layer")
        self.best_by, self.values, self.per_batch = best_by, values, per_batch
        self.checkpoint_activations = False

    @property
    def proposals(self) -> SharedProposals:
        """The proposal stage that judges tokens here, too."""
        return self._proposals[0]

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        """Memory of all tokens, refined or not, with `SalienceMaps`."""
        if len(tokens.shapes) != len(self.level_ratios):
            raise ValueError(
                f"expected one level ratio for each of {len(tokens.shapes)} levels, got {self.level_ratios}; "
                "change model.level_ratios"
            )
        maps = self.salience(tokens.with_content(self.proposals.project(_positioned(tokens))))
        score = torch.cat([level.flatten(1) for level in maps], dim=1)
        if self.per_batch:
            score = score.masked_fill(tokens.padding, score.amin())
        index, kept = self._ranked(tokens, maps)
        refined = tuple(self._prefix(index, kept, ratio) for ratio in self.layer_ratios)
        memory = tokens.with_content(self._refine(tokens, score, refined))
        if self.background is not None:
            memory = memory.with_content(self.background(memory, _left_alone(tokens, refined[-1], self.per_batch)))
        return Memory.of(memory, SalienceMaps(maps, refined, pyramid.canvas_hw))

    def _refine(self, tokens: Tokens, score: Tensor, refined: tuple[ActiveTokens, ...]) -> Float[Tensor, "B N C"]:
        content = tokens.content
        reference = scale_reference(tokens.centers(), tokens.valid_share)
        for number, active in enumerate(refined):
            arguments = (number, content, tokens, reference, score, active)
            if self.checkpoint_activations and self.training:
                content = checkpoint(self._layer, *arguments, use_reentrant=False)
            else:
                content = self._layer(*arguments)
        return content

    def _layer(
        self,
        number: int,
        content: Float[Tensor, "B N C"],
        tokens: Tokens,
        reference: Float[Tensor, "B N L 2"],
        score: Float[Tensor, "B N"],
        active: ActiveTokens,
    ) -> Float[Tensor, "B N C"]:
        index, padding = active.index, active.padding
        before, position = rows_of(content, index), rows_of(tokens.position, index)
        query = before
        if len(self.among_best):
            best = self._best(self.proposals.class_head(before).amax(dim=-1), score.gather(1, index))
            query = self.among_best[number](before, position, best, None if self.per_batch else padding)
        places = reference.gather(1, index[..., None, None].expand(-1, -1, *reference.shape[2:]))
        value = tokens.content if self.values == "input" else content
        query = self.layers[number](query, position, places, value, tokens.shapes, tokens.padding)
        return with_rows(content, index, torch.where(padding[..., None], before, query))

    def _best(self, object_logit: Float[Tensor, "B A"], salience: Float[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        if self.best_by == "logits":
            return object_logit * salience
        return object_logit.sigmoid() * salience.sigmoid()

    def _prefix(self, index: Int[Tensor, "B A"], kept: Int[Tensor, " B"], ratio: float) -> ActiveTokens:
        share = _single_precision_share if self.per_batch else _share
        length = max(1, share(index.shape[1], ratio))
        # Officially an image's own count is not reduced by the layer's ratio.
        own = kept if self.per_batch else (kept * ratio).int().clamp(min=1)
        return ActiveTokens(index[:, :length], torch.arange(length, device=index.device) >= own[:, None])

    @torch.no_grad()
    def _ranked(self, tokens: Tokens, maps: Sequence[Tensor]) -> tuple[Int[Tensor, "B A"], Int[Tensor, " B"]]:
        """Kept tokens of all levels, most salient first, and how many of them are the image's own."""
        best_of_level = self._best_of_batch if self.per_batch else self._best_of_image
        scores, indices, own = [], [], []
        for level, (start, stop) in enumerate(pairwise(tokens.starts)):
            score, padding = maps[level].flatten(1), tokens.padding[:, start:stop]
            count = ((~padding).sum(dim=1).float() * self.level_ratios[level]).int()
            count = count if self.per_batch else count.clamp(min=1)
            best = best_of_level(score, padding, count, self.level_ratios[level])
            scores.append(best.values)
            indices.append(best.indices + start)
            own.append(count)
        order = torch.cat(scores, dim=1).argsort(dim=1, descending=True)
        return torch.cat(indices, dim=1).gather(1, order), torch.stack(own).sum(dim=0)

    @staticmethod
    def _best_of_image(score: Tensor, padding: Tensor, count: Tensor, ratio: float) -> torch.return_types.topk:
        """Each image's own `count`, the rest at minus infinity; sized by the canvas, so that no device is asked."""
        best = score.masked_fill(padding, -torch.inf).topk(max(1, _share(score.shape[1], ratio)), dim=1)
        surplus = torch.arange(best.values.shape[1], device=score.device) >= count[:, None]
        return torch.return_types.topk((best.values.masked_fill(surplus, -torch.inf), best.indices))

    @staticmethod
    def _best_of_batch(score: Tensor, padding: Tensor, count: Tensor, ratio: float) -> torch.return_types.topk:
        """As many for every image as the fullest image keeps; padded tokens compete with the lowest score."""
        return score.masked_fill(padding, score.amin()).topk(int(count.max()), dim=1)


def _positioned(tokens: Tokens) -> Tokens:
    return tokens.with_content(tokens.content + tokens.position)


def _left_alone(tokens: Tokens, refined: ActiveTokens, per_batch: bool) -> Bool[Tensor, "B N"]:
    """Tokens that show the image and were not refined; officially surplus tokens count as refined."""
    left = torch.zeros_like(refined.padding) if per_batch else refined.padding
    return torch.ones_like(tokens.padding).scatter(1, refined.index, left) & ~tokens.padding


def _share(count: int, ratio: float) -> int:
    """Whole part of a share: 0.6 of 5 is 3. In integers, so that sizes stay symbolic where a model is exported."""
    exact = Fraction(ratio).limit_denominator(10**6)
    return count * exact.numerator // exact.denominator


def _single_precision_share(count: int, ratio: float) -> int:
    """As the official code rounds: 0.6 of 5 is 3, not the 2 of double precision."""
    return int(torch.tensor(float(count)) * ratio)


def _checked(ratios: Sequence[float], what: str) -> tuple[float, ...]:
    if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
        raise ValueError(f"expected {what} ratios in (0, 1], got {tuple(ratios)}; change model.{what}_ratios")
    return tuple(ratios)
