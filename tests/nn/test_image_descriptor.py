"""The image descriptor against its equations, written down for one image without padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.nn.channel_attention import EfficientChannelAttention
from smidgen.nn.coordinate_attention import CoordinateAttention
from smidgen.nn.image_descriptor import FusionStep, fuse_top_down, level_extractions, mean_of_valid_tokens
from smidgen.structures import Tokens

WIDTH = 12


def _channel_attention(layer: EfficientChannelAttention, features: Tensor) -> Tensor:
    means = F.pad(features.mean(dim=(1, 2)), (2, 2))
    kernel = layer.convolution.weight.flatten()
    gates = torch.stack([(means[channel : channel + 5] * kernel).sum() for channel in range(WIDTH)]).sigmoid()
    return features * gates[:, None, None]


def _coordinate_attention(layer: CoordinateAttention, features: Tensor) -> Tensor:
    def gate(layer_of_axis: nn.Conv1d, means: Tensor) -> Tensor:
        hidden = (layer.hidden.weight[:, :, 0] @ means + layer.hidden.bias[:, None]).relu()
        return (layer_of_axis.weight[:, :, 0] @ hidden + layer_of_axis.bias[:, None]).sigmoid()

    weighted = torch.empty_like(features)
    rows, columns = gate(layer.rows, features.mean(dim=2)), gate(layer.columns, features.mean(dim=1))
    for row in range(features.shape[1]):
        for column in range(features.shape[2]):
            weighted[:, row, column] = features[:, row, column] * rows[:, row] * columns[:, column]
    return weighted


def _extracted(layer: nn.Module, features: Tensor, dilation: int) -> Tensor:
    hidden = torch.einsum("oi,ihw->ohw", layer.conv1.weight[:, :, 0, 0], features)
    return F.conv2d(hidden[None], layer.conv2.weight, padding=dilation, dilation=dilation)[0].relu()


def _tokens(maps: list[Tensor]) -> Tokens:
    content = torch.cat([level.flatten(1).T for level in maps])[None]
    shapes = tuple((level.shape[1], level.shape[2]) for level in maps)
    padding = torch.zeros(content.shape[:2], dtype=torch.bool)
    return Tokens(content, content, padding, torch.ones(1, len(maps), 2), shapes, (8, 16, 32))


@torch.no_grad()
def test_levels_are_extracted_and_fused_by_the_equations() -> None:
    """Z_l = CoordAtt(ECA(up(Z_{l+1}) + S'_l)) + S_l, up: cell i reads cell i // 2."""
    maps = [torch.randn(WIDTH, *shape) for shape in ((7, 6), (4, 3), (2, 2))]
    extract = level_extractions(WIDTH, 3, 5, (1, 2, 3), "none")
    fuse = nn.ModuleList(FusionStep(WIDTH) for _ in range(2))
    expected = _extracted(extract[2], maps[2], 3)
    for level in (1, 0):
        rows, columns = (torch.arange(size) // 2 for size in maps[level].shape[1:])
        fused = expected[:, rows][:, :, columns] + _extracted(extract[level], maps[level], level + 1)
        attended = _coordinate_attention(fuse[level].coord, _channel_attention(fuse[level].eca, fused))
        expected = attended + maps[level]
    actual, padding = fuse_top_down(_tokens(maps), extract, fuse)
    torch.testing.assert_close(actual[0], expected, atol=1e-5, rtol=1e-5)
    assert padding.shape == (1, 7, 6)


def test_dilations_double_from_the_finest_level_on() -> None:
    levels = level_extractions(WIDTH, 4, 5, None, "none")
    assert [level.conv2.dilation for level in levels] == [(1, 1), (2, 2), (4, 4), (8, 8)]


def test_an_image_without_valid_tokens_has_a_zero_mean() -> None:
    content, padding = torch.ones(2, 3, 4), torch.tensor([[True] * 3, [False, True, False]])
    assert mean_of_valid_tokens(content, padding).tolist() == [[0.0] * 4, [1.0] * 4]
