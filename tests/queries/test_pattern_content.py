"""PaQ-DETR's pattern-shared dynamic queries: the image decides the mixture, padding and batch mates do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixing_cases import (
    HEADS,
    NUM_PATTERNS,
    NUM_QUERIES,
    WIDTH,
    any_pyramid,
    image_maps,
    memory_of,
    memory_with,
    mixed_memory,
    mixing_evidence,
    pattern_mixing,
    places_for,
)

from smidgen.nn.conditioned_table import FactorizedTable
from smidgen.queries.content import LearnedContent
from smidgen.queries.pattern_content import PatternAndLearnedContent, PatternContent, PatternMixing, mixing_weights
from smidgen.structures import Memory, Tokens

OPTIONS = [
    {},
    {"head": "dense"},
    {"fusion": "mean"},
    {"fusion_attention": "none"},
    {"fusion_skip": False},
    {"extractor_norm": "group"},
    {"extractor_norm": "batch"},
    {"keep_indicator": True},
    {"dilations": (3, 1, 2)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_query_is_a_convex_combination_of_the_patterns(options) -> None:
    memory = mixed_memory(pattern_mixing(**options), [image_maps((6, 9)), image_maps((8, 5), 1)], (8, 9))
    mixing, content = mixing_evidence(memory), PatternContent()(memory, places_for(NUM_QUERIES, 2))
    assert bool((mixing.weights >= 0).all())
    torch.testing.assert_close(mixing.weights.sum(-1), torch.ones(2, NUM_QUERIES))
    assert content.shape == (2, NUM_QUERIES, WIDTH)
    torch.testing.assert_close(content, torch.einsum("bqm,mc->bqc", mixing.weights, mixing.patterns))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_image_decides_the_mixture(options) -> None:
    weights = mixing_evidence(
        mixed_memory(pattern_mixing(**options), [image_maps((8, 9)), image_maps((8, 9), 1)], (8, 9))
    ).weights
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=6)
@given(cells=st.tuples(st.integers(1, 9), st.integers(1, 9)), extra=st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_padding_and_batch_mates_change_no_weight(options, cells, extra) -> None:
    mixing = pattern_mixing(**options)
    canvas = (cells[0] + extra[0], cells[1] + extra[1])
    with torch.no_grad():
        alone = mixing_evidence(mixed_memory(mixing, [image_maps(cells)], cells)).weights
        padded = mixing_evidence(mixed_memory(mixing, [image_maps(cells), image_maps(canvas, 1)], canvas)).weights
    torch.testing.assert_close(padded[:1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_statistics_of_extractor_norms_are_those_of_valid_cells_in_training_too(norm) -> None:
    mixing = pattern_mixing(extractor_norm=norm).train()
    with torch.no_grad():
        alone, padded = (
            mixing_evidence(mixed_memory(mixing, [image_maps((5, 6))], canvas)).weights for canvas in ((5, 6), (9, 8))
        )
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_one_hot_weights_give_back_the_learned_content() -> None:
    """Acceptance: m = n, W = identity and static patterns equal the baseline with learned content."""
    learned = LearnedContent(NUM_QUERIES, WIDTH)
    weights = mixing_weights(
        torch.full((2, NUM_QUERIES, NUM_QUERIES), -100.0).diagonal_scatter(
            torch.full((2, NUM_QUERIES), 100.0), dim1=1, dim2=2
        )
    )
    places = places_for(NUM_QUERIES, 2)
    memory = memory_with(weights, learned.table.weight)
    assert torch.equal(PatternContent()(memory, places), learned(memory, places))


@pytest.mark.parametrize("head", HEADS)
def test_fewer_queries_take_the_first_rows(head) -> None:
    """Counted budgets ask for a part of the rows."""
    memory = mixed_memory(pattern_mixing(head), [image_maps((4, 4))], (4, 4))
    whole, part = (PatternContent()(memory, places_for(count)) for count in (NUM_QUERIES, 4))
    torch.testing.assert_close(part, whole[:, :4])


def test_every_pattern_learns_from_one_query() -> None:
    mixing = pattern_mixing()
    content = PatternContent()(mixed_memory(mixing, [image_maps((4, 6))], (4, 6)), places_for(NUM_QUERIES))
    content[0, 3].sum().backward()
    assert bool((mixing.patterns.grad.abs().sum(1) > 0).all())


@pytest.mark.parametrize("fusion", ["top_down", "mean"])
def test_the_gradient_reaches_every_level_of_the_encoder(fusion) -> None:
    memory = memory_of([image_maps((6, 7))], (6, 7))
    levels = memory.tokens.content.requires_grad_()
    weights = mixing_evidence(pattern_mixing(fusion=fusion)(memory, any_pyramid(memory))).weights
    (weights * torch.randn_like(weights)).sum().backward()
    assert all(
        bool((level != 0).any())
        for level in memory.tokens.with_content(levels.grad).content.split(
            [rows * columns for rows, columns in memory.tokens.shapes], dim=1
        )
    )


def test_the_indicator_column_is_zero() -> None:
    """DN-DETR's queries end with a number that says "not a denoising query"."""
    mixing = pattern_mixing(keep_indicator=True)
    content = PatternContent()(mixed_memory(mixing, [image_maps((4, 4))], (4, 4)), places_for(5))
    assert mixing.patterns.shape == (NUM_PATTERNS, WIDTH - 1)
    assert bool((content[..., -1] == 0).all()) and bool((content[..., :-1] != 0).any())


def test_a_learned_residual_starts_as_the_mixture_alone() -> None:
    memory, places = mixed_memory(pattern_mixing(), [image_maps((4, 4))], (4, 4)), places_for(5)
    both = PatternAndLearnedContent(NUM_QUERIES, WIDTH)
    torch.testing.assert_close(both(memory, places), PatternContent()(memory, places))
    both(memory, places).sum().backward()
    assert both.table.weight.grad is not None
    assert bool((both.table.weight.grad[:5] != 0).all()) and bool((both.table.weight.grad[5:] == 0).all())


def test_a_low_temperature_chooses_one_pattern() -> None:
    logits = torch.randn(2, 5, NUM_PATTERNS)
    chosen = mixing_weights(logits, temperature=1e-3)
    assert torch.equal(chosen.argmax(-1), logits.argmax(-1)) and bool((chosen.amax(-1) > 0.99).all())


def test_weights_are_float32_under_mixed_precision() -> None:
    mixing, memory = pattern_mixing(), memory_of([image_maps((4, 4))], (4, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mixing(memory, any_pyramid(memory))
        content = PatternContent()(mixed, places_for(NUM_QUERIES))
    assert mixing_evidence(mixed).weights.dtype == content.dtype == torch.float32
    torch.testing.assert_close(mixing_evidence(mixed).weights.sum(-1), torch.ones(1, NUM_QUERIES))


def test_both_heads_start_with_rows_that_differ() -> None:
    for head in HEADS:
        weights = mixing_evidence(mixed_memory(pattern_mixing(head), [image_maps((4, 4))], (4, 4))).weights[0]
        assert len(weights.unique(dim=0)) == NUM_QUERIES


def test_the_generator_adds_1_75_million_parameters_to_a_900_query_dino() -> None:
    with torch.device("meta"):
        mixing = PatternMixing(FactorizedTable(900, 150, 256), 256, num_levels=4)
        table = LearnedContent(900, 256)
    added = sum(p.numel() for p in mixing.parameters()) - sum(p.numel() for p in table.parameters())
    assert added == pytest.approx(1.75e6, rel=0.02)


def test_the_parameter_tree_is_the_specified_one() -> None:
    names = set(PatternMixing(FactorizedTable(3, 2, 64), 64, 2, extractor_norm="group").state_dict())
    assert {name.split(".")[0] for name in names} == {"extract", "fuse", "fc1", "ln", "head", "patterns"}
    assert {"extract.1.conv1.weight", "extract.0.conv2.weight", "extract.0.norm.weight"} <= names
    assert {"fuse.0.eca.convolution.weight", "fuse.0.coord.rows.weight"} <= names
    assert {"head.A", "head.E", "head.C", "head.b"} <= names


def test_one_and_five_levels_fit() -> None:
    for num_levels in (1, 5):
        memory = memory_of([image_maps((17, 20), num_levels=num_levels)], (17, 20))
        assert mixing_evidence(pattern_mixing(num_levels=num_levels)(memory, any_pyramid(memory))).weights.shape[0] == 1


def test_levels_that_do_not_halve_are_named() -> None:
    tokens = memory_of([image_maps((6, 6))], (6, 6)).tokens
    odd = Tokens(
        tokens.content[:, :41],
        tokens.content[:, :41],
        tokens.padding[:, :41],
        tokens.valid_share,
        ((6, 6), (2, 2), (1, 1)),
        tokens.strides,
    )
    with pytest.raises(ValueError, match=r"half as many rows.*model\.backbone\.strides"):
        pattern_mixing().descriptor(odd)


def test_what_does_not_fit_is_named() -> None:
    memory, places = memory_with(torch.ones(1, 3, 1), torch.ones(1, WIDTH)), places_for(4)
    with pytest.raises(ValueError, match=r"at most 3 queries.*model\.num_queries"):
        PatternContent()(memory, places)
    with pytest.raises(ValueError, match="PatternMixing stage"):
        PatternContent()(Memory.of(memory.tokens), places)
    with pytest.raises(ValueError, match=r"each of 3 levels.*model\.patterns\.dilations"):
        pattern_mixing(dilations=(1, 2))
    with pytest.raises(ValueError, match="positive temperature"):
        pattern_mixing(temperature=0.0)
    with pytest.raises(ValueError, match="memory of 3 levels, got 2"):
        pattern_mixing().descriptor(memory_of([image_maps((4, 4), num_levels=2)], (4, 4)).tokens)
