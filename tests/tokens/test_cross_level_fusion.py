"""Fusion across levels: what the padding must not change, and blocks in one convolution."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from smidgen.structures import FeaturePyramid, Memory, Tokens, evidence_of
from smidgen.tokens.cross_level_fusion import CrossLevelFusion, RepVGGBlock, TwoBranches, fused

WIDTH = 8


@dataclass(frozen=True)
class Trace:
    name: str


def _memory(
    batch: int, canvas_hw: tuple[int, int], image_hw: tuple[int, int] | None = None, num_levels: int = 4
) -> tuple[Memory, FeaturePyramid]:
    strides = [8 * 2**level for level in range(num_levels)]
    levels = [torch.randn(batch, WIDTH, -(-canvas_hw[0] // s), -(-canvas_hw[1] // s)) for s in strides]
    rows, columns = image_hw or canvas_hw
    padding = torch.ones(batch, *canvas_hw, dtype=torch.bool)
    padding[:, :rows, :columns] = False
    pyramid = FeaturePyramid.of(levels, padding, strides)
    return Memory.of(_tokens(pyramid), Trace("before")), pyramid


def _tokens(pyramid: FeaturePyramid) -> Tokens:
    content = torch.cat([level.flatten(2).transpose(1, 2) for level in pyramid.levels], dim=1)
    share = torch.ones(len(content), len(pyramid.levels), 2)
    padding = torch.cat([mask.flatten(1) for mask in pyramid.padding], dim=1)
    return Tokens(content, torch.zeros_like(content), padding, share, pyramid.shapes, pyramid.strides)


def _randomize(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)


def _fusion(num_levels: int = 4, **options: object) -> CrossLevelFusion:
    fusion = CrossLevelFusion(WIDTH, num_levels, num_blocks=2, gate_reduction=4, **options)
    _randomize(fusion)
    return fusion.eval()


def test_parameters_are_those_of_the_released_model() -> None:
    with torch.device("meta"):
        fusion = CrossLevelFusion(256, 4)
    assert sum(parameter.numel() for parameter in fusion.parameters()) == 6_667_794


@pytest.mark.parametrize("num_levels", [1, 2, 3, 5])
def test_any_number_of_levels_keeps_places_and_evidence(num_levels: int) -> None:
    memory, pyramid = _memory(2, (72, 104), num_levels=num_levels)
    result = _fusion(num_levels)(memory, pyramid)
    assert result.tokens.shapes == memory.tokens.shapes
    assert result.tokens.content.shape == memory.tokens.content.shape
    assert result.proposal_tokens is result.tokens
    assert evidence_of(result.evidence, Trace) == Trace("before")
    if num_levels == 1:
        assert torch.equal(result.tokens.content, memory.tokens.content)


def test_every_level_hears_of_every_other() -> None:
    memory, pyramid = _memory(1, (64, 64))
    fusion = _fusion()
    content = memory.tokens.content.requires_grad_()
    tokens = fusion(memory, pyramid).tokens
    for level in range(4):
        (gradient,) = torch.autograd.grad(tokens.level(level).sum(), content, retain_graph=True)
        heard = [bool(gradient[:, start:stop].any()) for start, stop in pairwise(tokens.starts)]
        assert heard == [True] * 4


def _valid_after(fusion: CrossLevelFusion, canvas_hw: tuple[int, int], image: tuple[Tensor, ...]) -> list[Tensor]:
    """The fused image, alone on its canvas or in the corner of a larger one filled with noise."""
    memory, pyramid = _memory(1, canvas_hw, (40, 56))
    for level, valid in zip(pyramid.levels, image, strict=True):
        level[..., : valid.shape[-2], : valid.shape[-1]] = valid
    tokens = fusion(Memory.of(_tokens(pyramid)), pyramid).tokens
    assert memory.tokens.shapes == tokens.shapes
    return [tokens.unflatten(index)[..., : v.shape[-2], : v.shape[-1]] for index, v in enumerate(image)]


@pytest.mark.parametrize(("mask_padding", "unchanged"), [(True, True), (False, False)])
def test_the_canvas_changes_nothing_unless_the_official_behavior_is_asked_for(
    mask_padding: bool, unchanged: bool
) -> None:
    fusion = _fusion(mask_padding=mask_padding)
    image = _memory(1, (40, 56))[1].levels
    with torch.no_grad():
        small, large = (_valid_after(fusion, canvas, image) for canvas in ((64, 64), (128, 192)))
    close = [torch.allclose(a, b, atol=1e-5, rtol=1e-5) for a, b in zip(small, large, strict=True)]
    assert close == [unchanged] * 4


def test_batch_mates_change_nothing() -> None:
    memory, pyramid = _memory(3, (64, 96), (40, 56))
    fusion = _fusion()
    with torch.no_grad():
        together = fusion(memory, pyramid).tokens.content
        tokens = memory.tokens
        alone = Tokens(
            tokens.content[:1],
            tokens.position[:1],
            tokens.padding[:1],
            tokens.valid_share[:1],
            tokens.shapes,
            tokens.strides,
        )
        torch.testing.assert_close(fusion(Memory.of(alone), pyramid).tokens.content, together[:1], atol=1e-5, rtol=1e-5)


def test_padded_cells_come_out_as_zero_and_an_image_without_cells_is_no_accident() -> None:
    memory, pyramid = _memory(2, (64, 64), (24, 40))
    memory.tokens.padding[1] = True
    memory.tokens.content[1] = torch.inf
    with torch.no_grad():
        content = _fusion()(memory, pyramid).tokens.content
    assert content[memory.tokens.padding].eq(0).all()
    assert content[~memory.tokens.padding].ne(0).any()


def test_a_block_is_one_convolution_when_fused() -> None:
    fusion = _fusion()
    memory, pyramid = _memory(2, (64, 96), (40, 56))
    single = fused(fusion)
    with torch.no_grad():
        expected, actual = (each(memory, pyramid).tokens.content for each in (fusion, single))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    convolutions = [part.branches.convolution for part in single.modules() if isinstance(part, RepVGGBlock)]
    assert all(isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and part.groups == 4 for part in convolutions)
    sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (fusion, single)]
    assert sizes[1] < sizes[0]


def test_fusing_leaves_the_original_as_it_was_and_can_be_repeated() -> None:
    fusion = _fusion()
    before = {name: tensor.clone() for name, tensor in fusion.state_dict().items()}
    again = fused(fused(nn.Sequential(fusion)))
    assert not any(isinstance(part, TwoBranches) for part in again.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in fusion.state_dict().items())


def test_what_still_learns_is_not_fused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fused(_fusion().train())


def test_levels_must_be_as_many_as_expected_and_halve() -> None:
    memory, pyramid = _memory(1, (64, 64), num_levels=3)
    with pytest.raises(ValueError, match="4 levels, got 3"):
        _fusion(4)(memory, pyramid)
    content = torch.randn(1, 8 * 8 + 2 * 2, WIDTH)
    padding, share = torch.zeros(content.shape[:2], dtype=torch.bool), torch.ones(1, 2, 2)
    skipping = Tokens(content, content, padding, share, ((8, 8), (2, 2)), (8, 32))
    with pytest.raises(ValueError, match="halve"):
        _fusion(2)(Memory.of(skipping), pyramid)


@pytest.mark.parametrize(("width", "num_levels"), [(10, 4), (8, 0)])
def test_impossible_sizes_are_refused(width: int, num_levels: int) -> None:
    with pytest.raises(ValueError, match="expected at least one level"):
        CrossLevelFusion(width, num_levels)


def test_branches_and_gates_learn() -> None:
    fusion = _fusion().train()
    memory, pyramid = _memory(2, (64, 96), (40, 56))
    fusion(memory, pyramid).tokens.content.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in fusion.parameters())
