"""Gates from counting: what they multiply, padding, batch norm, any number of levels."""

from __future__ import annotations

import pytest
import torch

from smidgen.structures import FeaturePyramid, Memory, Tokens, evidence_of
from smidgen.tokens.counting_enhancement import CountingEnhancement, SpatialGates
from smidgen.tokens.object_counting import LightCounter, ObjectCount

WIDTH = 16


def _memory(shapes: list[tuple[int, int]], valid: list[tuple[int, int]], fill: float = 7.0) -> Memory:
    generator = torch.Generator().manual_seed(2)
    content, padding = [], []
    for shape, (rows, columns) in zip(shapes, valid, strict=True):
        level, mask = torch.full((1, WIDTH, *shape), fill), torch.ones(1, *shape, dtype=torch.bool)
        level[..., :rows, :columns] = torch.randn(1, WIDTH, rows, columns, generator=generator)
        mask[:, :rows, :columns] = False
        content.append(level.flatten(2).transpose(1, 2))
        padding.append(mask.flatten(1))
    tokens = torch.cat(content, dim=1)
    share = torch.ones(1, len(shapes), 2)
    strides = tuple(4 * 2**level for level in range(len(shapes)))
    return Memory.of(Tokens(tokens, tokens, torch.cat(padding, dim=1), share, tuple(shapes), strides), "earlier")


def _unread() -> FeaturePyramid:
    return FeaturePyramid((), (), (), torch.zeros(1, 1, 1, dtype=torch.bool))


def _stage(num_levels: int, **options: bool) -> CountingEnhancement:
    torch.manual_seed(4)
    return CountingEnhancement(LightCounter(WIDTH), WIDTH, num_levels, **options).eval()


@pytest.mark.parametrize("shapes", [[(5, 7)], [(5, 7), (3, 4), (2, 2)], [(1, 9), (1, 5), (1, 3), (1, 2), (1, 1)]])
@torch.no_grad()
def test_every_token_is_multiplied_by_one_number_between_0_and_1(shapes: list[tuple[int, int]]) -> None:
    memory = _memory(shapes, shapes)
    enhanced = _stage(len(shapes))(memory, _unread())
    gates = enhanced.tokens.content / memory.tokens.content
    assert ((gates > 0) & (gates < 1)).all()
    torch.testing.assert_close(gates, gates[..., :1].expand_as(gates))
    assert enhanced.proposal_tokens is enhanced.tokens
    assert enhanced.evidence[0] == "earlier"
    assert evidence_of(enhanced.evidence, ObjectCount) is not None


@torch.no_grad()
def test_the_channel_gate_multiplies_each_channel_on_top() -> None:
    memory = _memory([(4, 4), (2, 2)], [(4, 4), (2, 2)])
    stage = _stage(2, channel_gate=True)
    both = stage(memory, _unread()).tokens.content
    stage.channel_gate = None
    ratio = both / stage(memory, _unread()).tokens.content
    torch.testing.assert_close(ratio[:, :16], ratio[:, :1].expand(-1, 16, -1))
    assert ratio[0, 0].std() > 0


@pytest.mark.parametrize("channel_gate", [False, True])
@torch.no_grad()
def test_the_canvas_changes_nothing(channel_gate: bool) -> None:
    valid = [(6, 5), (3, 3), (2, 2)]
    canvas = [(11, 8), (6, 4), (3, 2)]
    stage = _stage(3, channel_gate=channel_gate)
    alone = stage(_memory(valid, valid), _unread())
    padded = stage(_memory(canvas, valid), _unread())
    for level, (rows, columns) in enumerate(valid):
        shown = padded.tokens.unflatten(level)[..., :rows, :columns]
        torch.testing.assert_close(shown, alone.tokens.unflatten(level), atol=1e-5, rtol=0)


@torch.no_grad()
def test_in_training_the_norm_sees_all_levels_at_once_unless_told_otherwise() -> None:
    guides = [torch.randn(1, 4, 6, 6), 5 + torch.randn(1, 4, 3, 3)]
    padding = [torch.zeros(1, 6, 6, dtype=torch.bool), torch.zeros(1, 3, 3, dtype=torch.bool)]
    together, official = SpatialGates(), SpatialGates(norm_per_level=True)
    together(guides, padding)
    official(guides, padding)
    assert together.norm.num_batches_tracked == 1
    assert official.norm.num_batches_tracked == 2


def test_a_single_cell_trains() -> None:
    stage = _stage(1).train()
    memory = _memory([(1, 1)], [(1, 1)])
    assert stage(memory, _unread()).tokens.content.isfinite().all()


def test_levels_that_are_not_halves_are_refused() -> None:
    with pytest.raises(ValueError, match="half the rows"):
        _stage(2)(_memory([(8, 8), (3, 3)], [(8, 8), (3, 3)]), _unread())
