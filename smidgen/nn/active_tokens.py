"""Deformable layers on a part of the tokens: queries are rows taken out of the sequence, values are rows put on its
grid.

Cells of the grid that hold no row are zero, which is what submanifold convolutions read there (Graham et al., "3D
Semantic Segmentation with Submanifold Sparse Convolutional Networks", CVPR 2018), and cost no multiplication.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.nn.deformable_attention import DeformableAttention
from smidgen.nn.deformable_layers import DeformableEncoderLayer


def rows_of(features: Float[Tensor, "B N C"], index: Int[Tensor, "B A"]) -> Float[Tensor, "B A C"]:
    """The features of the tokens at `index`."""
    return features.gather(1, index[..., None].expand(-1, -1, features.shape[-1]))


def with_rows(
    features: Float[Tensor, "B N C"], index: Int[Tensor, "B A"], rows: Float[Tensor, "B A C"]
) -> Float[Tensor, "B N C"]:
    """`features` with those at `index` replaced; the tokens of an index must differ from each other."""
    return features.scatter(1, index[..., None].expand(-1, -1, features.shape[-1]), rows.to(features.dtype))


def project_onto_grid(
    attention: DeformableAttention,
    rows: Float[Tensor, "B A C"],
    index: Int[Tensor, "B A"],
    padding: Bool[Tensor, "B A"],
    num_tokens: int,
) -> Float[Tensor, "B N heads dim"]:
    """Values of `num_tokens` cells as `attention.read` takes them, of which only the rows at `index` are projected.

    Padded rows, and cells without a row, are zero. The tokens of an index must differ from each other.
    """
    projected = attention.project_value(rows, padding)
    # Written in place: a grid that nobody else has seen needs no copy.
    grid = projected.new_zeros(projected.shape[0], num_tokens, *projected.shape[2:])
    return grid.scatter_(1, index[..., None, None].expand(-1, -1, *projected.shape[2:]), projected)


def refine(
    layer: DeformableEncoderLayer,
    query: Float[Tensor, "B Q C"],
    position: Float[Tensor, "B Q C"],
    reference: Float[Tensor, "B Q L 2"],
    projected: Float[Tensor, "B N heads dim"],
    shapes: tuple[tuple[int, int], ...],
) -> Float[Tensor, "B Q C"]:
    """What `layer` makes of `query` when its values are projected already."""
    update = layer.attention.read(query + position, reference, projected, shapes)
    query = layer.attention_norm(query + layer.dropout(update))
    refined: Tensor = layer.feed_forward_norm(query + layer.feed_forward(query))
    return refined
