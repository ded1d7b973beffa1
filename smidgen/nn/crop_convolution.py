"""Convolutions on crops around cells: each crop knows all that its predictions depend on, and shares nothing.

Chenhongyi Yang, Zehao Huang, Naiyan Wang, "QueryDet", CVPR 2022, Table 5 ("CQ", crop query; not in the released code).
The map is padded with zeros once and the layers run without padding. Keys farther from the border than the tower
reaches get the dense values; nearer ones do not, because a dense convolution pads every layer's input anew. One crop
serves the (up to four) keys of one query: 12x12 cells in place of four times 11x11 for four layers and a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from smidgen.nn.sparse_convolution import Branch
from smidgen.structures import Cells

# A crop of 12x12 cells with 256 channels takes 147 kB, and every layer about as much again.
CROPS_AT_ONCE = 512


def on_crops(features: Float[Tensor, "B C H W"], branches: Sequence[Branch], keys: Cells) -> tuple[Tensor, ...]:
    """All branches' predictions at the keys, one (keys, channels) tensor for each prediction, branch by branch."""
    outputs = [kernel for branch in branches for kernel in branch.predictions]
    if len(keys) == 0:
        return tuple(features.new_zeros((0, len(kernel.bias))) for kernel in outputs)
    blocks, block_of_key = _blocks(keys)
    within = (keys.row % 2) * 2 + keys.column % 2
    reach = max(branch.reach for branch in branches)
    # One row and column more, because the last block of an odd side is cut.
    padded = F.pad(features, (reach, reach + 1, reach, reach + 1))
    answers = [_answers(_crops(padded, chunk, reach), branches, reach) for chunk in blocks.split(CROPS_AT_ONCE)]
    return tuple(torch.cat(chunks)[block_of_key, within] for chunks in zip(*answers, strict=True))


def _blocks(keys: Cells) -> tuple[Int[Tensor, "blocks 3"], Int[Tensor, " n"]]:
    """(image, row, column) of the 2x2 blocks that hold keys, and the block of each key."""
    places = torch.stack([keys.image, keys.row // 2 * 2, keys.column // 2 * 2], dim=1)
    blocks, block_of_key = torch.unique(places, dim=0, return_inverse=True)
    return blocks, block_of_key


def _crops(padded: Float[Tensor, "B C H W"], blocks: Int[Tensor, "m 3"], reach: int) -> Float[Tensor, "m C side side"]:
    """The blocks with `reach` more cells on every side, from a map with as many more."""
    image, row, column = blocks.T[:, :, None, None]
    step = torch.arange(2 * reach + 2, device=blocks.device)
    return padded[image, :, row + step[:, None], column + step].permute(0, 3, 1, 2)


def _answers(
    crops: Float[Tensor, "m C side side"], branches: Sequence[Branch], reach: int
) -> list[Float[Tensor, "m 4 _"]]:
    """All branches on the same crops, of which one that reaches less far reads the middle."""
    return [answer for branch in branches for answer in _branch(_without_border(crops, reach - branch.reach), branch)]


def _branch(crops: Float[Tensor, "m C side side"], branch: Branch) -> list[Float[Tensor, "m 4 _"]]:
    for kernel in branch.tower:
        crops = F.conv2d(crops, kernel.weight, kernel.bias).relu_()
    # A 1x1 prediction beside 3x3 ones sees one cell less to every side.
    margin = max(kernel.reach for kernel in branch.predictions)
    results = []
    for kernel in branch.predictions:
        answer = F.conv2d(_without_border(crops, margin - kernel.reach), kernel.weight, kernel.bias)
        results.append(answer.flatten(2).transpose(1, 2))
    return results


def _without_border(crops: Float[Tensor, "m C side side"], cells: int) -> Float[Tensor, "m C inner inner"]:
    return crops[..., cells : crops.shape[-2] - cells, cells : crops.shape[-1] - cells]
