"""What is computed over valid cells equals what torch computes on the map cut to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from smidgen.nn.valid_cells import (
    ValidBatchNorm,
    ValidGroupNorm,
    max_of_valid,
    mean_of_valid,
    sum_of_valid,
    zero_padded,
)

CUTS = ((5, 7), (3, 8), (6, 4))  # valid rows and columns of each image, on a canvas of 6 x 8 cells


def _maps(cuts: tuple[tuple[int, int], ...] = CUTS, channels: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(cuts), channels, 6, 8, generator=generator) * 3 + 1
    padding = torch.ones(len(cuts), 6, 8, dtype=torch.bool)
    for mask, (rows, columns) in zip(padding, cuts, strict=True):
        mask[:rows, :columns] = False
    return features, padding


def _cut(features: Tensor, cuts: tuple[tuple[int, int], ...] = CUTS) -> list[Tensor]:
    return [one[None, :, :rows, :columns] for one, (rows, columns) in zip(features, cuts, strict=True)]


def _with_random_parameters(norm: nn.Module, like: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=generator)
    like.load_state_dict(norm.state_dict())


def _cells(maps: list[Tensor]) -> Tensor:
    """All cells as one image of one row."""
    return torch.cat([one.flatten(2) for one in maps], dim=2)[:, :, None]


def test_mean_maximum_and_sum_are_those_of_the_valid_cells() -> None:
    features, padding = _maps()
    for found, reduce in ((mean_of_valid, Tensor.mean), (max_of_valid, Tensor.amax), (sum_of_valid, Tensor.sum)):
        expected = torch.cat([reduce(one, dim=(2, 3)) for one in _cut(features)])
        torch.testing.assert_close(found(features, padding), expected)


def test_an_image_without_valid_cells_gives_zeros() -> None:
    features = torch.full((1, 2, 3, 3), -4.0)
    padding = torch.ones(1, 3, 3, dtype=torch.bool)
    for reduce in (mean_of_valid, max_of_valid, sum_of_valid):
        assert reduce(features, padding).tolist() == [[0, 0]]


def test_what_is_in_padded_cells_changes_nothing() -> None:
    features, padding = _maps()
    other = torch.where(padding[:, None], 1e3, features)
    for reduce in (mean_of_valid, max_of_valid, sum_of_valid):
        assert torch.equal(reduce(features, padding), reduce(other, padding))
    assert torch.equal(zero_padded(features, padding), zero_padded(other, padding))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("num_groups", [1, 3, 6])
def test_group_norm_is_torch_s_on_the_cut_map(num_groups: int, training: bool) -> None:
    features, padding = _maps()
    norm, torch_norm = ValidGroupNorm(num_groups, 6), nn.GroupNorm(num_groups, 6)
    _with_random_parameters(norm, torch_norm)
    found = norm.train(training)(features, padding)
    for one, cut in zip(_cut(found), _cut(features), strict=True):
        torch.testing.assert_close(one, torch_norm(cut), atol=1e-5, rtol=1e-5)
    assert not found[padding[:, None].expand_as(found)].any()


def test_group_norm_has_torch_s_gradients() -> None:
    features, padding = _maps()
    norm, torch_norm = ValidGroupNorm(3, 6), nn.GroupNorm(3, 6)
    _with_random_parameters(norm, torch_norm)
    mine, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    norm(mine, padding).pow(2).sum().backward()
    sum((torch_norm(cut).pow(2).sum() for cut in _cut(theirs)), torch.zeros(())).backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(norm.weight.grad, torch_norm.weight.grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("momentum", [0.01, 0.1])
def test_batch_norm_without_padding_is_torch_s_with_its_running_statistics(momentum: float) -> None:
    features, _ = _maps()
    norm, torch_norm = ValidBatchNorm(6, momentum=momentum), nn.BatchNorm2d(6, momentum=momentum)
    _with_random_parameters(norm, torch_norm)
    nothing = torch.zeros(3, 6, 8, dtype=torch.bool)
    torch.testing.assert_close(norm(features, nothing), torch_norm(features), atol=1e-5, rtol=1e-5)
    for name, buffer in torch_norm.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer)
    norm.eval(), torch_norm.eval()
    torch.testing.assert_close(norm(features, nothing), torch_norm(features), atol=1e-5, rtol=1e-5)


def test_batch_norm_with_padding_has_the_statistics_of_the_valid_cells() -> None:
    features, padding = _maps()
    norm, torch_norm = ValidBatchNorm(6), nn.BatchNorm2d(6)
    _with_random_parameters(norm, torch_norm)
    found = norm(features, padding)
    torch.testing.assert_close(_cells(_cut(found)), torch_norm(_cells(_cut(features))), atol=1e-5, rtol=1e-5)
    for name, buffer in torch_norm.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer)


def test_one_valid_cell_trains() -> None:
    features, padding = _maps(((1, 1),))
    norm = ValidBatchNorm(6)
    assert norm(features, padding).isfinite().all() and norm.running_var.isfinite().all()
