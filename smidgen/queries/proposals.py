"""Every token proposes a box and a class score (two-stage Deformable DETR, Zhu et al. 2021, appendix A.4)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from smidgen.nn.initialize import box_head, class_head, xavier_linear
from smidgen.nn.token_rows import rows_of, with_rows
from smidgen.structures import Proposals, Tokens


class ProposalHead(nn.Module):
    """Base box: the cell's center with sides 0.05 * 2^level of the image; heads predict class logits and a correction.

    A token is valid if it shows the image and all four numbers of its base box lie in (0.01, 0.99). Invalid tokens are
    zeroed before the projection; their boxes are exactly 1.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.projection = xavier_linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.class_head = class_head(width, num_classes)
        self.box_head = box_head(width)

    def forward(self, tokens: Tokens) -> Proposals:
        """Logits, boxes and projected content of every token; of the others, where some are active, as of padding."""
        base, valid = base_boxes(tokens)
        if tokens.active is None:
            return self._proposed(tokens.content, base, valid)
        index = tokens.active.index
        rows = self._proposed(rows_of(tokens.content, index), rows_of(base, index), valid.gather(1, index))
        return _spread(rows, index, self._of_padding(rows), valid)

    def project(self, tokens: Tokens) -> Float[Tensor, "B N C"]:
        """Projected content alone: Salience DETR reads salience from it before the encoder."""
        return self._projected(tokens.content, base_boxes(tokens)[1])

    def _proposed(
        self, content: Float[Tensor, "B A C"], base: Float[Tensor, "B A 4"], valid: Bool[Tensor, "B A"]
    ) -> Proposals:
        content = self._projected(content, valid)
        logit = torch.logit(base.clamp(0.01, 0.99)).masked_fill(~valid[..., None], torch.inf)
        return Proposals(
            logits=self.class_head(content),
            boxes_cxcywh=(self.box_head(content) + logit).sigmoid(),
            content=content,
            valid=valid,
        )

    def _of_padding(self, like: Proposals) -> Proposals:
        """What one invalid token of each image proposes."""
        nothing = like.content.new_zeros(like.content.shape[0], 1, self.projection.in_features)
        return self._proposed(nothing, nothing[..., :4], nothing[..., 0].bool())

    def _projected(self, content: Float[Tensor, "B A C"], valid: Bool[Tensor, "B A"]) -> Float[Tensor, "B A C"]:
        projected: Tensor = self.norm(self.projection(content.masked_fill(~valid[..., None], 0.0)))
        return projected


def _spread(rows: Proposals, index: Int[Tensor, "B A"], elsewhere: Proposals, valid: Bool[Tensor, "B N"]) -> Proposals:
    """`rows` at their tokens and `elsewhere`, one row for each image, at all others."""

    def everywhere(row: Float[Tensor, "B A D"], other: Float[Tensor, "B 1 D"]) -> Float[Tensor, "B N D"]:
        return with_rows(other.expand(-1, valid.shape[1], -1), index, row)

    chosen = torch.zeros_like(valid).scatter(1, index, rows.valid)
    return Proposals(
        logits=everywhere(rows.logits, elsewhere.logits),
        boxes_cxcywh=everywhere(rows.boxes_cxcywh, elsewhere.boxes_cxcywh),
        content=everywhere(rows.content, elsewhere.content),
        valid=chosen,
    )


def base_boxes(tokens: Tokens) -> tuple[Float[Tensor, "B N 4"], Bool[Tensor, "B N"]]:
    """Base boxes (cx, cy, w, h) in [0, 1] of the image without padding, and which tokens may propose."""
    centers = tokens.centers()
    sides = [
        centers.new_full((rows * columns, 2), 0.05 * 2.0**level) for level, (rows, columns) in enumerate(tokens.shapes)
    ]
    base = torch.cat([centers, torch.cat(sides).expand(centers.shape[0], -1, -1)], dim=-1)
    inside = ((base > 0.01) & (base < 0.99)).all(dim=-1)
    return base, inside & ~tokens.padding
