"""From a decoder layer's state to class logits, a box, and where the next layer looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smidgen.boxes import inverse_sigmoid
from smidgen.structures import LayerAnswer


class FixedReference(nn.Module):
    """One-stage Deformable DETR without refinement: every layer corrects the initial point; one head pair for all."""

    def __init__(self, class_head: nn.Module, box_head: nn.Module, eps: float = 1e-5) -> None:
        super().__init__()
        self.class_head, self.box_head, self.eps = class_head, box_head, eps

    def forward(self, layer: int, state: Tensor, reference: Tensor, base: Tensor) -> LayerAnswer:
        """The reference stays."""
        boxes = _corrected(self.box_head(state), base, self.eps)
        return LayerAnswer(self.class_head(state), boxes, reference, base)


class IterativeRefinement(nn.Module):
    """Each layer corrects the box of the one before, without gradient between layers (Deformable, DAB, DN).

    class_heads, box_heads: one per layer, or a single one shared by all.
    """

    def __init__(self, class_heads: Sequence[nn.Module], box_heads: Sequence[nn.Module], eps: float = 1e-5) -> None:
        super().__init__()
        self.class_heads, self.box_heads, self.eps = nn.ModuleList(class_heads), nn.ModuleList(box_heads), eps

    def forward(self, layer: int, state: Tensor, reference: Tensor, base: Tensor) -> LayerAnswer:
        """The next reference is this layer's box, detached."""
        logits = self.class_heads[layer % len(self.class_heads)](state)
        boxes = _corrected(self.box_heads[layer % len(self.box_heads)](state), base, self.eps)
        return LayerAnswer(logits, boxes, boxes.detach(), boxes.detach())


class LookForwardTwice(nn.Module):
    """DINO (Zhang et al., ICLR 2023, section 3.5): a layer's loss also reaches the box head of the layer before.

    The answer is read from the normed state, the next reference from the state as it is, by the same box head: a quirk
    of the official code that its checkpoints rely on.
    """

    def __init__(
        self, class_heads: Sequence[nn.Module], box_heads: Sequence[nn.Module], width: int, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.class_heads, self.box_heads, self.eps = nn.ModuleList(class_heads), nn.ModuleList(box_heads), eps
        self.norm = nn.LayerNorm(width)

    def forward(self, layer: int, state: Tensor, reference: Tensor, base: Tensor) -> LayerAnswer:
        """The next base carries gradient, the next reference does not."""
        box_head = self.box_heads[layer % len(self.box_heads)]
        normed = self.norm(state)
        logits = self.class_heads[layer % len(self.class_heads)](normed)
        following = _corrected(box_head(state), reference.detach(), self.eps)
        return LayerAnswer(logits, _corrected(box_head(normed), base, self.eps), following.detach(), following)


def _corrected(correction: Tensor, base: Tensor, eps: float) -> Tensor:
    """sigmoid(correction + logit(base)); a base point leaves the size to the correction alone."""
    logit = inverse_sigmoid(base, eps)
    if logit.shape[-1] == 2:
        logit = torch.cat([logit, torch.zeros_like(logit)], dim=-1)
    return (correction + logit).sigmoid()
