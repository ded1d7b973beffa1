"""Strip layers over crops are the patch-wise layers, and each part is the formula of the paper."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.nn.overlapping_crops import CropPlan, OverlappingCrops, Rounding
from smidgen.nn.strip_mixing import GlobalResponseNorm, RelativePosition, StripBlock, StripMLPBlock


def awakened(block: nn.Module) -> nn.Module:
    """In evaluation, with every parameter and statistic away from its start."""
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    for name, buffer in block.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            nn.init.uniform_(buffer, 0.5, 1.5)
    return block.double().eval()


@pytest.mark.parametrize("rounding", ["exact", "half_even"])
@pytest.mark.parametrize("shape", [(4, 4), (9, 14), (3, 12), (2, 3)])
def test_strip_layers_over_crops_equal_the_patch_wise_layers(shape: tuple[int, int], rounding: Rounding) -> None:
    block, features = awakened(StripBlock(8, 4, 2)), torch.randn(2, 4, *shape, dtype=torch.double)
    crops = OverlappingCrops.of(shape, 4, rounding)
    with torch.no_grad():
        merged = crops.merge(block.strip_layers(crops.split(features)))
        torch.testing.assert_close(merged, patch_wise(block, features, rounding))


def test_all_but_the_strip_layers_sees_the_whole_map() -> None:
    block, features = awakened(StripBlock(8, 4, 2)), torch.randn(1, 8, 4, 8, dtype=torch.double)
    nn.init.zeros_(block.fuse_w.weight)
    crops = OverlappingCrops.of((4, 8), 4)
    with torch.no_grad():
        before = block(features, crops)
        features[..., 7] += 1
        change = (block(features, crops) - before).abs().amax(dim=(0, 1, 2))
    assert (change > 0).all(), "pooling in the local branch reaches every column of both crops"


def test_a_strip_layer_mixes_a_whole_strip_with_its_two_neighbors() -> None:
    block, features = awakened(StripBlock(8, 3, 2)), torch.randn(1, 4, 3, 3, dtype=torch.double)
    with torch.no_grad():
        rows = mixed_rows(features[0] + block.relate_pos_h(), block.proj_h, groups=2)
        fused = F.gelu(block.BN(block.fuse_h(torch.cat([rows[None], features], dim=1))))[0]
        columns = mixed_rows((fused + block.relate_pos_w()).mT, block.proj_w, groups=2).mT
        torch.testing.assert_close(block.strip_layers(features)[0], columns)


def test_positions_depend_on_column_minus_row() -> None:
    position = RelativePosition(2, 3)
    for row, column in product(range(3), range(3)):
        assert torch.equal(position()[:, row, column], position.embeddings_table[column - row + 3])


def test_response_norm_divides_each_channels_norm_by_their_mean() -> None:
    norm, tokens = GlobalResponseNorm(3), torch.randn(2, 4, 5, 3)
    assert torch.equal(norm(tokens), tokens), "it starts as the identity"
    nn.init.constant_(norm.gamma, 2.0)
    nn.init.constant_(norm.beta, 0.5)
    strength = tokens.square().sum(dim=(1, 2)).sqrt()[:, None, None]
    expected = 2 * tokens * strength / (strength.mean(-1, keepdim=True) + 1e-6) + 0.5 + tokens
    torch.testing.assert_close(norm(tokens), expected)


def test_a_map_of_zeros_has_finite_gradients() -> None:
    norm, tokens = GlobalResponseNorm(3), torch.zeros(1, 2, 2, 3, requires_grad=True)
    nn.init.ones_(norm.gamma)
    norm(tokens).sum().backward()
    assert tokens.grad is not None and tokens.grad.isfinite().all()


def test_both_residuals_are_dropped_per_image_one_time_in_ten() -> None:
    block = StripMLPBlock(8, 2, 2)
    assert block.drop_path.drop_prob == 0.1
    block.token_mixing, block.channel_mixing = Ones(), Ones()
    images = block(torch.zeros(20_000, 8, 1, 1), OverlappingCrops.of((1, 1), 2))
    assert set(images.amax(dim=1).flatten().mul(0.9).round().tolist()) == {0.0, 1.0, 2.0}, (
        "kept ones are scaled by 1 / 0.9"
    )
    assert images.mean().item() == pytest.approx(2, abs=0.02)
    assert (block.eval()(torch.zeros(9, 8, 1, 1), OverlappingCrops.of((1, 1), 2)) == 2).all()


@pytest.mark.parametrize(
    ("channels", "grid", "groups", "count"),
    [
        (80, 56, 2, 456_300),
        (160, 28, 2, 458_520),
        (640, 7, 2, 4_013_280),
        (96, 56, 4, 335_016),
        (384, 14, 4, 1_507_680),
    ],
)
def test_parameters_of_a_block(channels: int, grid: int, groups: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in StripMLPBlock(channels, grid, groups).parameters()) == count


def test_widths_that_do_not_divide_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"divides into 4 groups, got 12"):
        StripBlock(12, 4, 4)


class Ones(nn.Module):
    """A branch that always answers 1."""

    def forward(self, features: Tensor, *crops: OverlappingCrops) -> Tensor:
        return torch.ones_like(features)


def patch_wise(block: StripBlock, features: Tensor, rounding: Rounding) -> Tensor:
    """One patch after the other through the layers, added up with 1 / count of each axis."""
    size = block.relate_pos_h.grid
    height, width = features.shape[-2:]
    rows, columns = (CropPlan.of(length, size, rounding) for length in (height, width))
    padded = F.pad(features, (0, columns.missing, 0, rows.missing))
    weight = (1 / rows.counts().double())[:, None] * (1 / columns.counts().double())
    merged = torch.zeros_like(padded)
    for top, left in product(rows.starts, columns.starts):
        place = (..., slice(top, top + size), slice(left, left + size))
        merged[place] += block.strip_layers(padded[place]) * weight[place]
    return merged[..., :height, :width]


def mixed_rows(features: Tensor, layer: nn.Conv2d, groups: int) -> Tensor:
    """o[g, k, i, j] = b[k n + j] + sum over j' and r of W[k n + j, j', 0, r + 1] u[g, k, i + r, j'], one by one."""
    side, per_group = features.shape[-1], features.shape[0] // groups
    output = torch.empty_like(features)
    for group, channel, row, column in product(range(groups), range(per_group), range(side), range(side)):
        neuron, source = channel * side + column, features[group * per_group + channel]
        total = layer.bias[neuron].clone()
        for other, shift in product(range(side), (-1, 0, 1)):
            if 0 <= row + shift < side:
                total += layer.weight[neuron, other, 0, shift + 1] * source[row + shift, other]
        output[group * per_group + channel, row, column] = total
    return output
