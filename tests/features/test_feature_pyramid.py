"""Levels of one width, each with the meaning of the coarser ones."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from smidgen.features.feature_pyramid import FeaturePyramidNetwork
from smidgen.structures import FeaturePyramid

CHANNELS = (3, 4, 5, 6)


def backbone_maps(rows: int = 16, columns: int = 24, finest: int = 4) -> FeaturePyramid:
    levels, shape = [], (rows, columns)
    for channels in CHANNELS:
        levels.append(torch.randn(2, channels, *shape))
        shape = (-(-shape[0] // 2), -(-shape[1] // 2))
    canvas = torch.zeros(2, rows * finest, columns * finest, dtype=torch.bool)
    return FeaturePyramid.of(levels, canvas, [finest * 2**level for level in range(4)])


@pytest.mark.parametrize("top", ["c5", "p5", "pool"])
def test_strides_double_and_maps_halve(top: Literal["c5", "p5", "pool"]) -> None:
    result = FeaturePyramidNetwork(CHANNELS, 8, top=top, num_levels=6)(backbone_maps())
    assert result.strides == (4, 8, 16, 32, 64, 128)
    assert result.shapes == ((16, 24), (8, 12), (4, 6), (2, 3), (1, 2), (1, 1))
    assert {level.shape[1] for level in result.levels} == {8}
    assert all(mask.shape[1:] == level.shape[2:] for mask, level in zip(result.padding, result.levels, strict=True))


def test_a_level_p2_adds_656k_parameters() -> None:
    def parameters(channels: tuple[int, ...], num_levels: int) -> int:
        with torch.device("meta"):
            network = FeaturePyramidNetwork(channels, num_levels=num_levels)
        return sum(parameter.numel() for parameter in network.parameters())

    with_p2 = parameters((256, 512, 1024, 2048), 6)
    assert with_p2 == 8_653_312
    assert with_p2 - parameters((512, 1024, 2048), 5) == 65_792 + 590_080


def test_the_finest_level_sees_the_coarsest_map() -> None:
    pyramid = backbone_maps()
    coarsest = pyramid.levels[-1].requires_grad_()
    FeaturePyramidNetwork(CHANNELS, 8)(pyramid).levels[0][:, :, :8, :8].sum().backward()
    assert coarsest.grad is not None
    assert coarsest.grad[:, :, 0, 0].abs().min() > 0
    assert coarsest.grad[:, :, -1, -1].abs().max() == 0, "cell by cell: the far corner has no say"


@pytest.mark.parametrize(("rows", "columns"), [(13, 21), (17, 9), (1, 1)])
def test_odd_sizes_read_the_coarse_cell_that_covers_them(rows: int, columns: int) -> None:
    result = FeaturePyramidNetwork(CHANNELS, 8)(backbone_maps(rows, columns))
    assert result.shapes[0] == (rows, columns)


def test_a_coarse_map_that_ends_early_is_continued() -> None:
    network = FeaturePyramidNetwork((3, 4), 8, num_levels=2)
    coarse = torch.randn(1, 4, 2, 2)
    short = FeaturePyramid.of([torch.zeros(1, 3, 5, 5), coarse], torch.zeros(1, 20, 20, dtype=torch.bool), (4, 8))
    continued = torch.nn.functional.pad(coarse, (0, 1, 0, 1), mode="replicate")
    full = FeaturePyramid.of([short.levels[0], continued], short.canvas_padding, (4, 8))
    torch.testing.assert_close(network(short).levels[0], network(full).levels[0])


def test_pooled_levels_are_every_second_cell() -> None:
    result = FeaturePyramidNetwork(CHANNELS, 8, top="pool", num_levels=5)(backbone_maps(32, 32))
    assert torch.equal(result.levels[4], result.levels[3][:, :, ::2, ::2])


def test_fewer_levels_than_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="no fewer levels"):
        FeaturePyramidNetwork(CHANNELS, num_levels=3)
