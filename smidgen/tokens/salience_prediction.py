"""How salient every token is: one small network on all levels, steered from coarse to fine.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024,
section 3.2. As in the official code the coarser level's logit, enlarged, scales the features of the finer level
(equation 3 has a score there), and half of the hidden channels see the whole level's mean.

The official predictor begins with a layer norm, and a layer norm undoes a positive scaling of its token: as long as
1 + alpha s > 0 the coarser map changes next to nothing (less than 1e-4 in the logits), and where it is negative the
normed features flip their sign (docs/log.md). `after_norm` lets the map scale what has been normed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.initialize import xavier_linear
from smidgen.structures import Tokens


class SaliencePredictor(nn.Module):
    """A logit per token of one level from its feature and the level's mean feature.

    mask_padding: the mean is taken over cells that show the image; False = over all cells (official).
    """

    def __init__(self, width: int, mask_padding: bool = True) -> None:
        super().__init__()
        self.norm, self.expand = nn.LayerNorm(width), xavier_linear(width, width)
        self.layers = nn.ModuleList(
            [xavier_linear(width, width // 2), xavier_linear(width // 2, width // 4), xavier_linear(width // 4, 1)]
        )
        self.mask_padding = mask_padding

    def forward(
        self,
        features: Float[Tensor, "B n C"],
        padding: Bool[Tensor, "B n"],
        scale: Float[Tensor, "B n 1"] | float = 1.0,
    ) -> Float[Tensor, "B n"]:
        """Salience logits of the level's tokens; `scale` multiplies the normed features."""
        own, shared = F.gelu(self.expand(self.norm(features) * scale)).chunk(2, dim=-1)
        hidden = torch.cat([own, self._mean(shared, padding).expand_as(shared)], dim=-1)
        for layer in self.layers[:-1]:
            hidden = F.gelu(layer(hidden))
        logits: Tensor = self.layers[-1](hidden)
        return logits[..., 0]

    def _mean(self, features: Tensor, padding: Tensor) -> Float[Tensor, "B 1 c"]:
        if not self.mask_padding:
            return features.mean(dim=1, keepdim=True)
        total = features.masked_fill(padding[..., None], 0.0).sum(dim=1, keepdim=True, dtype=torch.float32)
        return (total / (~padding).sum(dim=1).clamp(min=1)[:, None, None]).to(features.dtype)


class TopDownSalience(nn.Module):
    """Salience of all levels, coarsest first; each level's map modulates the next finer one's features.

    modulation (levels - 1) starts as U(-0.3, 0.3), one factor per finer level. align_corners: enlarge maps from corner
    to corner of the canvas (official; then padding moves them) instead of by the cells' places. after_norm: modulate
    what the predictor has normed, not what it norms (official: then only its sign has an effect).
    """

    def __init__(
        self, predictor: SaliencePredictor, num_levels: int, align_corners: bool = False, after_norm: bool = False
    ) -> None:
        super().__init__()
        self.predictor, self.align_corners, self.after_norm = predictor, align_corners, after_norm
        self.modulation = nn.Parameter(torch.empty(num_levels - 1).uniform_(-0.3, 0.3))

    def forward(self, tokens: Tokens) -> tuple[Float[Tensor, "B _ _"], ...]:
        """Logit maps, finest first; values at padded cells mean nothing."""
        maps: list[Tensor] = []
        for level in reversed(range(len(tokens.shapes))):
            features: Tensor = tokens.level(level)
            scale: Tensor | float = 1.0
            if maps:
                scale = 1 + self.modulation[level] * self._enlarged(maps[-1], tokens, level).flatten(1)[..., None]
            if not self.after_norm:
                features, scale = features * scale, 1.0
            padding = tokens.padding[:, tokens.starts[level] : tokens.starts[level + 1]]
            maps.append(self.predictor(features, padding, scale).unflatten(1, tokens.shapes[level]))
        return tuple(reversed(maps))

    def _enlarged(self, coarse: Float[Tensor, "B h w"], tokens: Tokens, level: int) -> Float[Tensor, "B H W"]:
        """The map of `level` + 1 at the cells of `level`."""
        if self.align_corners:
            return F.interpolate(coarse[:, None], tokens.shapes[level], mode="bilinear", align_corners=True)[:, 0]
        # Bilinear reading at places on a grid is a product along each axis, which no runtime gets wrong.
        rows, columns = (_reading_weights(tokens, level, axis).to(coarse.dtype) for axis in (0, 1))
        return rows @ coarse @ columns.mT


def _reading_weights(tokens: Tokens, level: int, axis: int) -> Float[Tensor, "B cells coarser_cells"]:
    """How much each row (axis 0) or column (1) of `level` takes of each of `level` + 1: of the two it lies between.

    Places beyond the image are moved to its border, so that no padded cell is read.
    """
    cells, coarser_cells = tokens.shapes[level][axis], tokens.shapes[level + 1][axis]
    valid = tokens.valid_share[:, level + 1, 1 - axis] * coarser_cells
    places = torch.arange(cells, device=valid.device) + 0.5
    places = places * tokens.strides[level] / tokens.strides[level + 1]
    places = torch.minimum(places.clamp(min=0.5), (valid - 0.5).clamp(min=0.5)[:, None])
    centers = torch.arange(coarser_cells, device=valid.device) + 0.5
    return (1 - (places[..., None] - centers).abs()).clamp(min=0)
