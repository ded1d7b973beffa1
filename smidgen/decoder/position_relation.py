"""Self-attention is told how boxes lie to each other (Hou et al., Relation DETR, ECCV 2024, equations 4-6).

The relation of the previous layer's boxes to this layer's becomes a bias of the next layer's attention logits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.nn.position_encoding import sine_of_boxes


class PositionRelation(nn.Module):
    """Offsets and size ratios of box pairs, sine-encoded without gradient, projected to one bias per head.

    width, temperature, scale: of the sine encoding of each of the four numbers.
    """

    def __init__(self, num_heads: int, width: int = 16, temperature: float = 10000.0, scale: float = 100.0) -> None:
        super().__init__()
        self.projection = nn.Conv2d(4 * width, num_heads, 1)
        self.width, self.temperature, self.scale = width, temperature, scale

    def forward(self, boxes: Float[Tensor, "B Q 4"], others: Float[Tensor, "B Q 4"]) -> Float[Tensor, "B heads Q Q"]:
        """Bias of query i (its box in `boxes`) towards query j (in `others`); both cxcywh."""
        with torch.no_grad():
            relation = _pairwise_relation(boxes.float(), others.float())
            encoding = sine_of_boxes(relation, self.width, "xywh", self.temperature, self.scale)
        bias: Tensor = self.projection(encoding.permute(0, 3, 1, 2)).relu()
        return bias


def _pairwise_relation(boxes: Tensor, others: Tensor, eps: float = 1e-5) -> Float[Tensor, "B Q Q 4"]:
    center, size = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    offset = ((center - others[:, None, :, :2]).abs() / (size + eps)).log1p()
    ratio = ((size + eps) / (others[:, None, :, 2:] + eps)).log()
    return torch.cat([offset, ratio], dim=-1)
