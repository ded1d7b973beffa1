"""Cross coding: the limits of its gates, who has a say in its norm, and what it costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from smidgen.nn.position_encoding import SinePosition
from smidgen.structures import FeaturePyramid, Memory, Tokens, evidence_of
from smidgen.tokens.cross_coding import (
    CodedOnce,
    CrossCoding,
    CrossGated,
    CrossGates,
    JointGate,
    NormScope,
    ProductGate,
    ResponseMLP,
    ResponseNorm,
    SumOfMLPs,
    TokenGate,
)
from smidgen.tokens.flatten import FlattenPyramid

WIDTH = 8


def _mixings():
    return {
        "product": CrossGated(WIDTH, ProductGate(WIDTH, 2 * WIDTH)),
        "product of logits": CrossGated(WIDTH, ProductGate(WIDTH, 2 * WIDTH, of="logits")),
        "joint": CrossGated(WIDTH, JointGate(WIDTH, 2 * WIDTH)),
        "between": CrossGated(WIDTH, ProductGate(WIDTH, 2 * WIDTH, "between")),
        "once": CodedOnce(WIDTH),
        "mlp only": SumOfMLPs(WIDTH),
    }


EVERY_MIXING = pytest.mark.parametrize("name", _mixings())


def _stage(name: str = "product", **options: object) -> CrossCoding:
    """A stage whose norms are no longer the identity."""
    torch.manual_seed(0)
    stage = CrossCoding(_mixings()[name], **options)
    for part in stage.modules():
        if isinstance(part, ResponseNorm):
            nn.init.normal_(part.gamma)
            nn.init.normal_(part.beta)
    return stage


def _encoded(canvas_hw=(64, 96), image_hw=(64, 96), padded=7.0, seed=3) -> tuple[Memory, FeaturePyramid]:
    """One image in the corner of a canvas, two levels; encoder tokens that differ from the maps."""
    canvas = torch.ones(1, *canvas_hw, dtype=torch.bool)
    canvas[:, : image_hw[0], : image_hw[1]] = False
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for stride in (8, 16):
        level = torch.full((1, WIDTH, canvas_hw[0] // stride, canvas_hw[1] // stride), padded)
        shown = torch.randn(1, WIDTH, image_hw[0] // stride, image_hw[1] // stride, generator=generator)
        level[..., : shown.shape[-2], : shown.shape[-1]] = shown
        levels.append(level)
    pyramid = FeaturePyramid.of(levels, canvas, (8, 16))
    tokens = FlattenPyramid(WIDTH, 2, SinePosition(WIDTH, 20.0))(pyramid)
    return Memory.of(tokens.with_content(tokens.content.roll(1, dims=-1) * 1.5 + 0.1)), pyramid


def _valid(tokens: Tokens) -> torch.Tensor:
    return tokens.content[~tokens.padding]


class _Always(nn.Module):
    """A gate of one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, encoder: torch.Tensor, backbone: torch.Tensor, scope: NormScope) -> torch.Tensor:
        return torch.full_like(encoder, self.value)


@pytest.mark.parametrize(("gate", "of_encoder", "of_backbone"), [(1.0, 2.0, 0.0), (0.0, 0.0, 1.0), (0.25, 0.5, 0.75)])
def test_the_gate_is_the_encoders_share(gate: float, of_encoder: float, of_backbone: float) -> None:
    """Equation 3: g = 1 gives 2E, g = 0 gives B."""
    memory, pyramid = _encoded()
    coded = CrossCoding(CrossGated(WIDTH, _Always(gate)))(memory, pyramid).tokens.content
    backbone = FlattenPyramid(WIDTH, 2, SinePosition(WIDTH, 20.0))(pyramid).content
    torch.testing.assert_close(coded, of_encoder * memory.tokens.content + of_backbone * backbone)


@pytest.mark.parametrize(
    ("name", "of_encoder", "of_backbone"),
    [("product", 0.5, 0.75), ("between", 0.5, 0.75), ("product of logits", 1.0, 0.5), ("joint", 1.0, 0.5)],
)
def test_undecided_gates_halve_the_encoder_unless_they_are_joint(
    name: str, of_encoder: float, of_backbone: float
) -> None:
    stage, (memory, pyramid) = _stage(name), _encoded()
    for part in stage.modules():
        if isinstance(part, ResponseMLP):
            nn.init.zeros_(part.project.weight)
    found = stage(memory, pyramid)
    gates = evidence_of(found.evidence, CrossGates)
    assert gates is not None
    expected = of_encoder * gates.encoder.content + of_backbone * gates.backbone.content
    torch.testing.assert_close(found.tokens.content, expected)


def test_the_backbones_tokens_come_in_the_encoders_order_without_positions() -> None:
    memory, pyramid = _encoded()
    gates = evidence_of(_stage()(memory, pyramid).evidence, CrossGates)
    assert gates is not None
    for level, features in enumerate(pyramid.levels):
        assert torch.equal(gates.backbone.unflatten(level), features)
    assert gates.encoder is memory.tokens


@EVERY_MIXING
@pytest.mark.parametrize("norm_per_level", [False, True])
@torch.no_grad()
def test_padding_changes_nothing_where_the_image_is(name: str, norm_per_level: bool) -> None:
    stage = _stage(name, norm_per_level=norm_per_level)
    expected = _valid(stage(*_encoded()).tokens)
    for padded in (7.0, -1e4):
        on_larger_canvas = _valid(stage(*_encoded((128, 160), padded=padded)).tokens)
        torch.testing.assert_close(on_larger_canvas, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_batch_mates_change_nothing() -> None:
    (memory, pyramid), (other, others) = _encoded(), _encoded(image_hw=(32, 48), seed=4)
    first, second = memory.tokens, other.tokens
    both = Tokens(
        *(torch.cat(pair) for pair in zip(
            (first.content, first.position, first.padding, first.valid_share),
            (second.content, second.position, second.padding, second.valid_share),
            strict=True,
        )),
        first.shapes,
        first.strides,
    )  # fmt: skip
    levels = [torch.cat(pair) for pair in zip(pyramid.levels, others.levels, strict=True)]
    joined = FeaturePyramid.of(levels, torch.cat([pyramid.canvas_padding, others.canvas_padding]), pyramid.strides)
    found = _stage()(Memory.of(both), joined).tokens.content
    torch.testing.assert_close(found[:1], _stage()(memory, pyramid).tokens.content, atol=1e-6, rtol=0)


def _reference_norm(norm: ResponseNorm, tokens: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """ConvNeXt V2's formula over the valid tokens, image after image."""
    images = []
    for image, mask in zip(tokens, padding, strict=True):
        response = image[~mask].square().sum(0).sqrt()
        images.append(norm.gamma * image * (response / (response.mean() + norm.eps)) + norm.beta + image)
    return torch.stack(images)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_the_response_norm_reads_the_valid_tokens(seed: int, valid: int) -> None:
    torch.manual_seed(seed)
    norm = ResponseNorm(WIDTH)
    nn.init.normal_(norm.gamma)
    nn.init.normal_(norm.beta)
    tokens, padding = torch.randn(2, 9, WIDTH), torch.zeros(2, 9, dtype=torch.bool)
    padding[0, valid:] = True
    expected = _reference_norm(norm, tokens, padding)
    torch.testing.assert_close(norm(tokens, NormScope(padding, (0, 9))), expected)
    halves = [
        norm(tokens[:, part], NormScope(padding[:, part], (0, len(tokens[0, part]))))
        for part in (slice(4), slice(4, 9))
    ]
    torch.testing.assert_close(norm(tokens, NormScope(padding, (0, 4, 9))), torch.cat(halves, dim=1))


def test_the_response_norm_starts_as_the_identity() -> None:
    tokens, padding = torch.randn(1, 5, WIDTH), torch.zeros(1, 5, dtype=torch.bool)
    assert torch.equal(ResponseNorm(WIDTH)(tokens, NormScope(padding, (0, 5))), tokens)


def test_half_precision_tokens_are_summed_in_full() -> None:
    """65,504 is float16's largest number; here the sum of squares is 4e7."""
    norm = ResponseNorm(WIDTH)
    nn.init.ones_(norm.gamma)
    tokens, padding = torch.full((1, 400, WIDTH), 316.0), torch.zeros(1, 400, dtype=torch.bool)
    found = norm(tokens.half(), NormScope(padding, (0, 400)))
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), 2 * tokens, atol=0.5, rtol=0)


@EVERY_MIXING
def test_an_image_of_padding_alone_stays_finite(name: str) -> None:
    stage, (memory, pyramid) = _stage(name), _encoded(image_hw=(0, 0))
    content = memory.tokens.content.clone().requires_grad_()
    stage(Memory.of(memory.tokens.with_content(content)), pyramid).tokens.content.sum().backward()
    assert content.grad is not None
    assert content.grad.isfinite().all()
    assert all(part.grad.isfinite().all() for part in stage.parameters() if part.grad is not None)


@EVERY_MIXING
def test_every_parameter_learns(name: str) -> None:
    stage = _stage(name)
    stage(*_encoded()).tokens.content.square().sum().backward()
    assert [name for name, part in stage.named_parameters() if part.grad is None or not part.grad.any()] == []


def test_first_gates_leave_the_other_branch_at_most_half() -> None:
    """GELU is never below -0.17, so its sigmoid never below 0.457."""
    assert TokenGate(WIDTH)(torch.randn(1, 500, WIDTH) * 30).min() > 0.457


def test_coding_once_is_the_first_step() -> None:
    """Equation 2: E1 = E + B (1 - E')."""
    stage, (memory, pyramid) = _stage("once"), _encoded()
    gates = evidence_of(stage(memory, pyramid).evidence, CrossGates)
    assert gates is not None
    expected = gates.encoder.content + gates.backbone.content * (1 - stage.mixing.encoder_gate(gates.encoder.content))
    torch.testing.assert_close(gates.coded.content, expected)


def test_proposals_are_read_from_the_encoder_unless_asked_for() -> None:
    memory, pyramid = _encoded()
    assert _stage()(memory, pyramid).proposal_tokens is memory.proposal_tokens
    coded = _stage(proposals="cross")(memory, pyramid)
    assert coded.proposal_tokens is coded.tokens


def test_earlier_evidence_is_kept_and_a_sum_leaves_none() -> None:
    memory, pyramid = _encoded()
    marked = Memory(memory.tokens, memory.proposal_tokens, ("before",))
    assert _stage("mlp only")(marked, pyramid).evidence == ("before",)
    assert _stage()(marked, pyramid).evidence[0] == "before"


def test_mean_gates_per_level_leave_padding_out() -> None:
    memory, pyramid = _encoded((128, 160))
    gates = evidence_of(_stage()(memory, pyramid).evidence, CrossGates)
    assert gates is not None
    expected = [gates.gate.unflatten(0)[0, :, :8, :12].mean(), gates.gate.unflatten(1)[0, :, :4, :6].mean()]
    torch.testing.assert_close(gates.mean_per_level()[0], torch.stack(expected))


def test_size_and_cost_at_width_256() -> None:
    """Ten matrices of 256 x 256: 13.93 G multiplications on an image of 800 x 1280."""
    with torch.device("meta"):
        mixing = CrossGated(256, ProductGate(256, 512))
        tokens, padding = torch.zeros(1, 21_260, 256), torch.zeros(1, 21_260, dtype=torch.bool)
        with FlopCounterMode(display=False) as flops:
            mixing(tokens, tokens, NormScope(padding, (0, 21_260)))
    assert sum(parameter.numel() for parameter in mixing.parameters()) == 659_456
    assert flops.get_total_flops() == 2 * 10 * 256 * 256 * 21_260


def test_a_pyramid_of_other_cells_is_refused() -> None:
    memory, _ = _encoded()
    with pytest.raises(ValueError, match="expected a pyramid with the tokens' cells"):
        _stage()(memory, _encoded((128, 160))[1])
