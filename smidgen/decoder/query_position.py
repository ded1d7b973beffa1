"""The positional part of a query in each decoder layer: learned, or an encoding of the box it has arrived at."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from smidgen.nn.deformable_layers import scale_reference
from smidgen.nn.initialize import xavier_linear
from smidgen.nn.mlp import MLP
from smidgen.nn.position_encoding import sine_of_boxes
from smidgen.structures import Queries, Tokens


class LearnedPosition(nn.Module):
    """The position the queries brought along, the same in every layer (one-stage Deformable DETR)."""

    def forward(
        self, queries: Queries, reference: Tensor, content: Tensor, tokens: Tokens, layer: int
    ) -> Float[Tensor, "B Q C"]:
        """`queries.position`."""
        if queries.position is None:
            raise ValueError("expected queries with a learned position (LearnedPoints), got queries without")
        return queries.position


class InitialBoxPosition(nn.Module):
    """Two-stage Deformable DETR: linear and norm over the sine of the first reference (x, y, w, h), kept in all layers.

    Not scaled by the valid share of the canvas, unlike `BoxPosition`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = xavier_linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, queries: Queries, reference: Tensor, content: Tensor, tokens: Tokens, layer: int
    ) -> Float[Tensor, "B Q C"]:
        """Encoding of `queries.reference`."""
        encoding = sine_of_boxes(queries.reference, self.projection.out_features // 2, order="xywh")
        return self.norm(self.projection(encoding))


class BoxPosition(nn.Module):
    """DAB-DETR and DINO: an MLP over the sine of the current box (y, x, w, h).

    scale: DAB's modulation, an MLP of the content that multiplies the position from the second layer on.
    in_canvas: encode the box in coordinates of the finest level's canvas, as the official codes do (parity); queries
    then depend on how much an image is padded. By default boxes are encoded in coordinates of the image.
    """

    def __init__(self, width: int, scale: bool = False, in_canvas: bool = False) -> None:
        super().__init__()
        self.projection = MLP(2 * width, width, width)
        self.scale = MLP(width, width, width) if scale else None
        self.width, self.in_canvas = width, in_canvas

    def forward(
        self, queries: Queries, reference: Tensor, content: Tensor, tokens: Tokens, layer: int
    ) -> Float[Tensor, "B Q C"]:
        """Encoding of `reference`."""
        if self.in_canvas:
            reference = scale_reference(reference, tokens.valid_share[:, :1])[:, :, 0]
        position: Tensor = self.projection(sine_of_boxes(reference, self.width // 2, order="yxwh"))
        if self.scale is not None and layer > 0:
            position = position * self.scale(content)
        return position
