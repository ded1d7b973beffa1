"""One set of statistics for all levels, each level weighing the same, that folds into the convolution before it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from smidgen.nn.convolution_tower import ConvolutionTower
from smidgen.nn.merged_batch_norm import MergedBatchNorm
from smidgen.nn.sparse_convolution import Kernel


def test_mean_and_mean_square_are_averaged_over_levels_not_over_cells() -> None:
    norm = MergedBatchNorm(1, momentum=1.0)
    small, large = torch.full((1, 1, 1, 1), 4.0), torch.zeros(1, 1, 3, 3)
    normalized = norm([large, small])
    assert norm.running_mean.item() == 2 and norm.running_var.item() == 8 - 4
    torch.testing.assert_close(normalized[1].flatten(), torch.tensor([2 / (4 + 1e-5) ** 0.5]))


def test_running_statistics_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean and mean square are averaged, as over levels; here the other process saw a mean of 3 and a square of 9."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(torch.tensor([[3.0], [9.0]])))
    norm = MergedBatchNorm(1, momentum=1.0)
    normalized = norm([torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)])[0]
    assert norm.running_mean.item() == 1.5 and norm.running_var.item() == 5 - 1.5**2
    torch.testing.assert_close(normalized.flatten(), torch.tensor([1.0, -1.0]), atol=1e-4, rtol=0)


def test_one_level_is_batch_norm() -> None:
    ours, theirs, level = MergedBatchNorm(3), nn.BatchNorm2d(3), torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(ours([level])[0], theirs(level))


def test_in_evaluation_the_folded_convolution_is_the_convolution_and_its_norm() -> None:
    convolution, norm = nn.Conv2d(2, 3, 3, padding=1), MergedBatchNorm(3)
    for _ in range(3):
        norm([convolution(torch.randn(2, 2, 6, 6))])
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.eval()
    before = [parameter.clone() for parameter in norm.state_dict().values()]
    features = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(norm.folded(Kernel.of(convolution))(features), norm([convolution(features)])[0])
    assert all(torch.equal(*pair) for pair in zip(before, norm.state_dict().values(), strict=True))


def test_padded_cells_are_zero_before_every_layer() -> None:
    tower = ConvolutionTower(2, 2)
    level, padding = torch.randn(1, 2, 4, 6), torch.zeros(1, 4, 6, dtype=torch.bool)
    padding[..., 4:] = True
    cut = tower([level[..., :4]], [None])[0]
    torch.testing.assert_close(tower([level], [padding])[0], F.pad(cut, (0, 2)))
