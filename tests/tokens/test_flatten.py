"""A pyramid as tokens: order, places and what padding does to them."""

from __future__ import annotations

import pytest
import torch

from smidgen.nn.position_encoding import SinePosition
from smidgen.structures import FeaturePyramid, Tokens
from smidgen.tokens.flatten import FlattenPyramid


def _tokens(canvas: torch.Tensor) -> tuple[FeaturePyramid, Tokens]:
    height, width = canvas.shape[1:]
    levels = [torch.randn(len(canvas), 8, height // stride, width // stride) for stride in (8, 16)]
    pyramid = FeaturePyramid.of(levels, canvas, (8, 16))
    return pyramid, FlattenPyramid(8, 2, SinePosition(8))(pyramid)


def test_levels_and_tokens_name_the_same_cells() -> None:
    pyramid, tokens = _tokens(torch.zeros(2, 32, 48, dtype=torch.bool))
    for index, level in enumerate(pyramid.levels):
        assert torch.equal(tokens.unflatten(index), level)
    assert tokens.starts == (0, 24, 30)
    assert tokens.level_of_token(torch.tensor([0, 23, 24, 29])).tolist() == [0, 0, 1, 1]


def test_centers_are_shares_of_the_image_whatever_the_canvas() -> None:
    canvas = torch.ones(1, 64, 96, dtype=torch.bool)
    canvas[:, :32, :48] = False
    _, padded = _tokens(canvas)
    _, bare = _tokens(torch.zeros(1, 32, 48, dtype=torch.bool))
    assert padded.valid_share[0, 0].tolist() == [0.5, 0.5]
    torch.testing.assert_close(padded.centers()[~padded.padding], bare.centers()[0])
    assert torch.equal(padded.position[~padded.padding].isfinite(), bare.position[0].isfinite())


def test_levels_must_be_as_many_as_embeddings() -> None:
    pyramid, _ = _tokens(torch.zeros(1, 32, 48, dtype=torch.bool))
    with pytest.raises(ValueError, match="pyramid of 3 levels, got 2"):
        FlattenPyramid(8, 3, SinePosition(8))(pyramid)
