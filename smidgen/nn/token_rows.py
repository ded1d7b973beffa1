"""Tokens taken out of a sequence, worked on, and put back: what sparse ideas have in common.

Where only some tokens exist (`Tokens.active`), linear layers run on their rows alone; grids are filled with zeros
between them, which is what submanifold convolutions read there (Graham et al., "3D Semantic Segmentation with
Submanifold Sparse Convolutional Networks", CVPR 2018).
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def rows_of(features: Float[Tensor, "B N C"], index: Int[Tensor, "B A"]) -> Float[Tensor, "B A C"]:
    """The features of the tokens at `index`."""
    return features.gather(1, _every_channel(index, features))


def with_rows(
    features: Float[Tensor, "B N C"], index: Int[Tensor, "B A"], rows: Float[Tensor, "B A C"]
) -> Float[Tensor, "B N C"]:
    """`features` with those at `index` replaced; the tokens of an index must differ from each other."""
    return features.scatter(1, _every_channel(index, features), rows.to(features.dtype))


def on_empty_grid(rows: Float[Tensor, "B A C"], index: Int[Tensor, "B A"], num_tokens: int) -> Float[Tensor, "B N C"]:
    """`num_tokens` tokens of zeros with `rows` at `index`; the tokens of an index must differ from each other."""
    grid = rows.new_zeros(rows.shape[0], num_tokens, rows.shape[2])
    return grid.scatter_(1, _every_channel(index, rows), rows)  # nobody else has seen the grid: no copy is needed


def _every_channel(index: Int[Tensor, "B A"], features: Float[Tensor, "B _ C"]) -> Int[Tensor, "B A C"]:
    return index[..., None].expand(-1, -1, features.shape[-1])
