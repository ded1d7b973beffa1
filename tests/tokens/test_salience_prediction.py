"""Salience is predicted from coarse to fine; each level's map modulates the next finer one."""

from __future__ import annotations

import torch

from smidgen.nn.position_encoding import SinePosition
from smidgen.structures import FeaturePyramid, Tokens
from smidgen.tokens.flatten import FlattenPyramid
from smidgen.tokens.salience_prediction import SaliencePredictor, TopDownSalience

WIDTH = 16


def tokens_of(canvas_hw: tuple[int, int], image_hw: tuple[int, int], strides: tuple[int, ...] = (8, 16)) -> Tokens:
    """Equal features on the cells of the image, garbage beyond."""
    padding = torch.ones(1, *canvas_hw, dtype=torch.bool)
    padding[:, : image_hw[0], : image_hw[1]] = False
    generator = torch.Generator().manual_seed(0)
    levels = []
    for stride in strides:
        level = 9 * torch.randn(1, WIDTH, canvas_hw[0] // stride, canvas_hw[1] // stride)
        rows, columns = image_hw[0] // stride, image_hw[1] // stride
        level[..., :rows, :columns] = torch.randn(1, WIDTH, rows, columns, generator=generator)
        levels.append(level)
    torch.manual_seed(0)
    return FlattenPyramid(WIDTH, len(strides), SinePosition(WIDTH))(FeaturePyramid.of(levels, padding, strides))


def salience(mask_padding: bool = True, align_corners: bool = False, after_norm: bool = True) -> TopDownSalience:
    torch.manual_seed(1)
    return TopDownSalience(SaliencePredictor(WIDTH, mask_padding), 2, align_corners, after_norm)


def test_there_is_one_map_per_level_finest_first() -> None:
    maps = salience()(tokens_of((64, 96), (64, 96)))
    assert [tuple(level.shape) for level in maps] == [(1, 8, 12), (1, 4, 6)]


def test_the_coarse_map_scales_the_finer_levels_features() -> None:
    """Equation 3: z_l (1 + alpha_l s_{l+1}); with alpha 0 the levels know nothing of each other."""
    network, tokens = salience(), tokens_of((64, 96), (64, 96))
    changed = with_other_coarse_level(tokens)
    assert not torch.allclose(network(tokens)[0], network(changed)[0], atol=1e-3, rtol=0)
    network.modulation.data.zero_()
    assert torch.equal(network(tokens)[0], network(changed)[0])


def test_officially_the_norm_undoes_the_modulation() -> None:
    network, tokens = salience(after_norm=False), tokens_of((64, 96), (64, 96))
    changed = network(with_other_coarse_level(tokens))[0]
    torch.testing.assert_close(network(tokens)[0], changed, atol=1e-4, rtol=0)


def with_other_coarse_level(tokens: Tokens) -> Tokens:
    content = tokens.content.clone()
    content[:, tokens.starts[1] :] *= -2.0
    return tokens.with_content(content)


def test_the_canvas_changes_nothing_by_default() -> None:
    small, large = (salience()(tokens_of(canvas, (64, 96))) for canvas in ((64, 96), (160, 128)))
    torch.testing.assert_close(large[0][:, :8, :12], small[0], atol=1e-5, rtol=0)


def test_the_official_mean_and_enlargement_see_padding() -> None:
    for options in ({"mask_padding": False}, {"align_corners": True}):
        small, large = (salience(**options)(tokens_of(canvas, (64, 96))) for canvas in ((64, 96), (160, 128)))
        assert not torch.allclose(large[0][:, :8, :12], small[0], atol=1e-5, rtol=0)


def test_without_padding_the_mean_is_the_official_one() -> None:
    tokens = tokens_of((64, 96), (64, 96))
    assert torch.allclose(salience()(tokens)[1], salience(mask_padding=False)(tokens)[1], atol=1e-6)


def test_a_finer_cell_reads_the_coarse_cell_it_lies_in() -> None:
    """By the cells' places: a 2 x 2 block of finer cells surrounds the center of its coarse cell."""
    tokens = tokens_of((64, 96), (64, 96))
    coarse = torch.arange(24.0).reshape(1, 4, 6)
    enlarged = salience()._enlarged(coarse, tokens, 0)
    blocks = enlarged.reshape(1, 4, 2, 6, 2).mean(dim=(2, 4))
    torch.testing.assert_close(blocks[:, 1:-1, 1:-1], coarse[:, 1:-1, 1:-1])
