"""The cells of a pyramid as one sequence, with everything an attention layer must know about where they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ActiveTokens:
    """Which tokens of a sequence exist at all (salience filtering, a sparse stride-4 level).

    index: positions in the full sequence; padding: True where an image has fewer active tokens than its batch mates.
    """

    index: Int[Tensor, "B A"]
    padding: Bool[Tensor, "B A"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Flattened pyramid, level 0 (finest) first, rows then columns inside a level.

    content: features. position: positional encoding incl. the level's. padding: True where no image is.
    valid_share: share of each level's columns and rows that show the image, order (w, h).
    shapes: (rows, columns) of each level; strides: pixels per cell. active: None = all tokens exist.
    """

    content: Float[Tensor, "B N C"]
    position: Float[Tensor, "B N C"]
    padding: Bool[Tensor, "B N"]
    valid_share: Float[Tensor, "B L 2"]
    shapes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    active: ActiveTokens | None = None

    @property
    def starts(self) -> tuple[int, ...]:
        """Index of each level's first token, and after the last level the number of tokens."""
        offsets = [0]
        for rows, columns in self.shapes:
            offsets.append(offsets[-1] + rows * columns)
        return tuple(offsets)

    def level(self, index: int) -> Float[Tensor, "B n C"]:
        """Content of one level (a view)."""
        return self.content[:, self.starts[index] : self.starts[index + 1]]

    def unflatten(self, index: int) -> Float[Tensor, "B C H_l W_l"]:
        """Content of one level as a map (a view)."""
        rows, columns = self.shapes[index]
        return self.level(index).transpose(1, 2).unflatten(2, (rows, columns))

    def level_of_token(self, token: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Level of each token index."""
        level = token.new_zeros(token.shape)
        for start in self.starts[1:-1]:
            level = level + (token >= start)
        return level

    def centers(self) -> Float[Tensor, "B N 2"]:
        """Centers (x, y) of all cells in [0, 1] of the image without its padding (beyond 1 in the padding)."""
        device, centers = self.content.device, []
        for level, (rows, columns) in enumerate(self.shapes):
            y = (torch.arange(rows, device=device) + 0.5) / rows
            x = (torch.arange(columns, device=device) + 0.5) / columns
            grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
            centers.append(grid / self.valid_share[:, None, level])
        return torch.cat(centers, dim=1)

    def coarser(self) -> Tokens:
        """The same without the finest level (views); all of them exist."""
        start = self.starts[1]
        return Tokens(
            content=self.content[:, start:],
            position=self.position[:, start:],
            padding=self.padding[:, start:],
            valid_share=self.valid_share[:, 1:],
            shapes=self.shapes[1:],
            strides=self.strides[1:],
        )

    def with_content(self, content: Float[Tensor, "B N C"]) -> Tokens:
        """The same places with other features."""
        return replace(self, content=content)
