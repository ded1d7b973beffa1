"""PaQ-DETR's pattern-shared dynamic queries: the image decides the mixture, padding and batch mates do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smidgen.nn.conditioned_table import DenseTable, FactorizedTable
from smidgen.queries.content import LearnedContent
from smidgen.queries.pattern_content import (
    PatternAndLearnedContent,
    PatternContent,
    PatternMixing,
    PatternWeights,
    mixing_weights,
)
from smidgen.queries.pattern_usage import (
    effective_patterns,
    keep_patterns,
    most_used,
    pattern_usage,
    weight_entropy,
)
from smidgen.structures import FeaturePyramid, Memory, Places, Tokens, evidence_of

WIDTH, NUM_LEVELS, NUM_QUERIES, NUM_PATTERNS = 32, 3, 11, 7
HEADS = {"factorized": FactorizedTable, "dense": DenseTable}


def _halved(cells: tuple[int, int], times: int) -> tuple[int, int]:
    return (-(-cells[0] // 2**times), -(-cells[1] // 2**times))


def _memory(images: list[list[Tensor]], canvas: tuple[int, int]) -> Memory:
    """Images as one map per level, on a canvas of so many cells of the finest level; anything stands in the padding."""
    levels, masks, shapes = [], [], []
    for level in range(len(images[0])):
        shape = _halved(canvas, level)
        content, padding = 9.0 * torch.randn(len(images), WIDTH, *shape), torch.ones(len(images), *shape).bool()
        for index, maps in enumerate(images):
            rows, columns = maps[level].shape[1:]
            content[index, :, :rows, :columns] = maps[level]
            padding[index, :rows, :columns] = False
        levels.append(content.flatten(2).transpose(1, 2))
        masks.append(padding.flatten(1))
        shapes.append(shape)
    content, padding = torch.cat(levels, dim=1), torch.cat(masks, dim=1)
    share = torch.ones(len(images), len(shapes), 2)
    return Memory.of(Tokens(content, content, padding, share, tuple(shapes), (8, 16, 32, 64)[: len(shapes)]))


def _image(cells: tuple[int, int], seed: int = 0, num_levels: int = NUM_LEVELS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(WIDTH, *_halved(cells, level), generator=generator) for level in range(num_levels)]


def _mixing(head: str = "factorized", num_levels: int = NUM_LEVELS, **options) -> PatternMixing:
    table = HEADS[head](NUM_QUERIES, NUM_PATTERNS, WIDTH)
    return PatternMixing(table, WIDTH, num_levels, extractor_width=8, **options).eval()


def _pyramid(memory: Memory) -> FeaturePyramid:
    """Stages are given the pyramid, too; this one does not read it."""
    return FeaturePyramid((), (), (), torch.zeros(len(memory.tokens.content), 1, 1, dtype=torch.bool))


def _mix(mixing: PatternMixing, images: list[list[Tensor]], canvas: tuple[int, int]) -> Memory:
    memory = _memory(images, canvas)
    return mixing(memory, _pyramid(memory))


def _evidence(memory: Memory) -> PatternWeights:
    found = evidence_of(memory.evidence, PatternWeights)
    assert found is not None
    return found


def _given(weights: Tensor, patterns: Tensor) -> Memory:
    empty = torch.zeros(len(weights), 0, 1)
    tokens = Tokens(empty, empty, torch.zeros(len(weights), 0).bool(), torch.ones(len(weights), 0, 2), (), ())
    return Memory.of(tokens, PatternWeights(weights, patterns))


def _places(num_queries: int, batch: int = 1) -> Places:
    return Places(torch.zeros(batch, num_queries, 4))


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
    memory = _mix(_mixing(**options), [_image((6, 9)), _image((8, 5), 1)], (8, 9))
    mixing, content = _evidence(memory), PatternContent()(memory, _places(NUM_QUERIES, 2))
    assert bool((mixing.weights >= 0).all())
    torch.testing.assert_close(mixing.weights.sum(-1), torch.ones(2, NUM_QUERIES))
    assert content.shape == (2, NUM_QUERIES, WIDTH)
    torch.testing.assert_close(content, torch.einsum("bqm,mc->bqc", mixing.weights, mixing.patterns))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_image_decides_the_mixture(options) -> None:
    weights = _evidence(_mix(_mixing(**options), [_image((8, 9)), _image((8, 9), 1)], (8, 9))).weights
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=6)
@given(cells=st.tuples(st.integers(1, 9), st.integers(1, 9)), extra=st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_padding_and_batch_mates_change_no_weight(options, cells, extra) -> None:
    mixing = _mixing(**options)
    canvas = (cells[0] + extra[0], cells[1] + extra[1])
    with torch.no_grad():
        alone = _evidence(_mix(mixing, [_image(cells)], cells)).weights
        padded = _evidence(_mix(mixing, [_image(cells), _image(canvas, 1)], canvas)).weights
    torch.testing.assert_close(padded[:1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_statistics_of_extractor_norms_are_those_of_valid_cells_in_training_too(norm) -> None:
    mixing = _mixing(extractor_norm=norm).train()
    with torch.no_grad():
        alone, padded = (_evidence(_mix(mixing, [_image((5, 6))], canvas)).weights for canvas in ((5, 6), (9, 8)))
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_one_hot_weights_give_back_the_learned_content() -> None:
    """Acceptance: m = n, W = identity and static patterns equal the baseline with learned content."""
    learned = LearnedContent(NUM_QUERIES, WIDTH)
    weights = mixing_weights(
        torch.full((2, NUM_QUERIES, NUM_QUERIES), -100.0).diagonal_scatter(
            torch.full((2, NUM_QUERIES), 100.0), dim1=1, dim2=2
        )
    )
    places = _places(NUM_QUERIES, 2)
    memory = _given(weights, learned.table.weight)
    assert torch.equal(PatternContent()(memory, places), learned(memory, places))


@pytest.mark.parametrize("head", HEADS)
def test_fewer_queries_take_the_first_rows(head) -> None:
    """Counted budgets ask for a part of the rows."""
    memory = _mix(_mixing(head), [_image((4, 4))], (4, 4))
    whole, part = (PatternContent()(memory, _places(count)) for count in (NUM_QUERIES, 4))
    torch.testing.assert_close(part, whole[:, :4])


def test_every_pattern_learns_from_one_query() -> None:
    mixing = _mixing()
    content = PatternContent()(_mix(mixing, [_image((4, 6))], (4, 6)), _places(NUM_QUERIES))
    content[0, 3].sum().backward()
    assert bool((mixing.patterns.grad.abs().sum(1) > 0).all())


@pytest.mark.parametrize("fusion", ["top_down", "mean"])
def test_the_gradient_reaches_every_level_of_the_encoder(fusion) -> None:
    memory = _memory([_image((6, 7))], (6, 7))
    levels = memory.tokens.content.requires_grad_()
    weights = _evidence(_mixing(fusion=fusion)(memory, _pyramid(memory))).weights
    (weights * torch.randn_like(weights)).sum().backward()
    assert all(
        bool((level != 0).any())
        for level in memory.tokens.with_content(levels.grad).content.split(
            [rows * columns for rows, columns in memory.tokens.shapes], dim=1
        )
    )


def test_the_indicator_column_is_zero() -> None:
    """DN-DETR's queries end with a number that says "not a denoising query"."""
    mixing = _mixing(keep_indicator=True)
    content = PatternContent()(_mix(mixing, [_image((4, 4))], (4, 4)), _places(5))
    assert mixing.patterns.shape == (NUM_PATTERNS, WIDTH - 1)
    assert bool((content[..., -1] == 0).all()) and bool((content[..., :-1] != 0).any())


def test_a_learned_residual_starts_as_the_mixture_alone() -> None:
    memory, places = _mix(_mixing(), [_image((4, 4))], (4, 4)), _places(5)
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
    mixing, memory = _mixing(), _memory([_image((4, 4))], (4, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mixing(memory, _pyramid(memory))
        content = PatternContent()(mixed, _places(NUM_QUERIES))
    assert _evidence(mixed).weights.dtype == content.dtype == torch.float32
    torch.testing.assert_close(_evidence(mixed).weights.sum(-1), torch.ones(1, NUM_QUERIES))


def test_both_heads_start_with_rows_that_differ() -> None:
    for head in HEADS:
        weights = _evidence(_mix(_mixing(head), [_image((4, 4))], (4, 4))).weights[0]
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
        memory = _memory([_image((17, 20), num_levels=num_levels)], (17, 20))
        assert _evidence(_mixing(num_levels=num_levels)(memory, _pyramid(memory))).weights.shape[0] == 1


def test_levels_that_do_not_halve_are_named() -> None:
    tokens = _memory([_image((6, 6))], (6, 6)).tokens
    odd = Tokens(
        tokens.content[:, :41],
        tokens.content[:, :41],
        tokens.padding[:, :41],
        tokens.valid_share,
        ((6, 6), (2, 2), (1, 1)),
        tokens.strides,
    )
    with pytest.raises(ValueError, match=r"half as many rows.*model\.backbone\.strides"):
        _mixing().descriptor(odd)


def test_what_does_not_fit_is_named() -> None:
    memory, places = _given(torch.ones(1, 3, 1), torch.ones(1, WIDTH)), _places(4)
    with pytest.raises(ValueError, match=r"at most 3 queries.*model\.num_queries"):
        PatternContent()(memory, places)
    with pytest.raises(ValueError, match="PatternMixing stage"):
        PatternContent()(Memory.of(memory.tokens), places)
    with pytest.raises(ValueError, match=r"each of 3 levels.*model\.dilations"):
        _mixing(dilations=(1, 2))
    with pytest.raises(ValueError, match="positive temperature"):
        _mixing(temperature=0.0)
    with pytest.raises(ValueError, match="memory of 3 levels, got 2"):
        _mixing().descriptor(_memory([_image((4, 4), num_levels=2)], (4, 4)).tokens)


def test_effective_patterns_count_equally_used_ones() -> None:
    usage = pattern_usage([torch.eye(4)[None, [0, 1, 0, 1]], torch.eye(4)[None, [1, 0]]])
    assert usage.tolist() == pytest.approx([0.5, 0.5, 0, 0])
    assert effective_patterns(usage).item() == pytest.approx(2.0)
    assert weight_entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist() == pytest.approx([0.0, 0.6931472])


def test_the_mean_over_a_data_set_counts_queries_and_not_batches() -> None:
    weights = mixing_weights(torch.randn(5, 6, NUM_PATTERNS))
    torch.testing.assert_close(pattern_usage(weights.split(2)), weights.mean(dim=(0, 1)))
    with pytest.raises(ValueError, match="at least one"):
        pattern_usage([])


def _reduced(mixing: PatternMixing, head: str, index: Tensor) -> PatternMixing:
    reduced = PatternMixing(HEADS[head](NUM_QUERIES, len(index), WIDTH), WIDTH, NUM_LEVELS, extractor_width=8).eval()
    reduced.load_state_dict(keep_patterns(mixing.state_dict(), index))
    return reduced


@pytest.mark.parametrize("head", HEADS)
def test_keeping_all_patterns_changes_nothing(head) -> None:
    mixing = _mixing(head)
    index = most_used(torch.rand(NUM_PATTERNS), NUM_PATTERNS)
    contents = [
        PatternContent()(_mix(stage, [_image((5, 4))], (5, 4)), _places(NUM_QUERIES))
        for stage in (mixing, _reduced(mixing, head, index))
    ]
    assert torch.equal(*contents)


@pytest.mark.parametrize("head", HEADS)
def test_removing_unused_patterns_changes_nothing(head) -> None:
    mixing, unused = _mixing(head), torch.tensor([1, 4])
    with torch.no_grad():
        bias = mixing.head.b if head == "factorized" else mixing.head.fc2.bias.view(NUM_QUERIES, NUM_PATTERNS)
        bias[:, unused] -= 60.0
    memory = _mix(mixing, [_image((5, 4))], (5, 4))
    index = most_used(pattern_usage([_evidence(memory).weights]), NUM_PATTERNS - 2)
    assert not set(index.tolist()) & set(unused.tolist())
    reduced = _mix(_reduced(mixing, head, index), [_image((5, 4))], (5, 4))
    before, after = (PatternContent()(mixed, _places(NUM_QUERIES)) for mixed in (memory, reduced))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def test_patterns_inside_a_model_are_found_and_other_weights_kept() -> None:
    state = {f"encoder.stages.0.{name}": value for name, value in _mixing().state_dict().items()} | {
        "other": torch.ones(2)
    }
    kept = keep_patterns(state, [2, 3])
    assert kept["encoder.stages.0.patterns"].shape == (2, WIDTH) and kept.keys() == state.keys()
    assert kept["other"] is state["other"]
    with pytest.raises(ValueError, match="with patterns"):
        keep_patterns({"other": torch.ones(2)}, [0])
    with pytest.raises(ValueError, match="between 1 and 3"):
        most_used(torch.ones(3), 4)
