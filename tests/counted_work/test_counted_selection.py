"""Choosing tokens and queries: what is left out costs nothing, and the choice as many calls for any number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from counted_work.counter import flops, python_lines, tensor_work
from torch import Tensor, nn

from smidgen.nn.conditioned_table import FactorizedTable
from smidgen.nn.deformable_layers import DeformableEncoderLayer
from smidgen.nn.sparse_convolution import GATHERED_CELLS, Branch, Kernel, on_cells
from smidgen.queries.pattern_content import PatternContent, PatternMixing
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.stratified_topk import StratifiedTopK
from smidgen.queries.suppressed_topk import SuppressedTopK
from smidgen.queries.topk import TopK
from smidgen.structures import Cells, FeaturePyramid, Memory, Places, Proposals, QueryBudget, Tokens
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery
from smidgen.tokens.salience_filtering import AttentionAmongBest, SalienceFilteredEncoder

WIDTH = 16


def tokens_of(rows: int, batch: int = 2) -> Tokens:
    """Two levels, the finer one of `rows` rows and as many columns."""
    shapes = ((rows, rows), (rows // 2, rows // 2))
    content = torch.randn(batch, sum(height * width for height, width in shapes), WIDTH)
    padding = torch.zeros(content.shape[:2], dtype=torch.bool)
    return Tokens(content, content, padding, torch.ones(batch, 2, 2), shapes, strides=(8, 16))


def pyramid_of(tokens: Tokens) -> FeaturePyramid:
    return FeaturePyramid((), (), (), torch.zeros(len(tokens.content), 8, 8, dtype=torch.bool))


class RandomSalience(nn.Module):
    """Logit maps of noise."""

    def forward(self, tokens: Tokens) -> tuple[Tensor, ...]:
        return tuple(torch.randn(len(tokens.content), *shape) for shape in tokens.shapes)


def salience_encoder(level_ratio: float, layer_ratio: float, best: int = 8) -> SalienceFilteredEncoder:
    return SalienceFilteredEncoder(
        lambda: DeformableEncoderLayer(WIDTH, 2, 2, 2, 16),
        lambda: AttentionAmongBest(WIDTH, 2, best=best),
        salience=RandomSalience(),
        proposals=ProposalHead(WIDTH, 3),
        background=None,
        level_ratios=(level_ratio, level_ratio),
        layer_ratios=(layer_ratio, layer_ratio),
    )


def test_salience_filtering_saves_the_work_of_the_tokens_it_leaves_out() -> None:
    """A quarter of the tokens costs a quarter of the layers; projecting the values and judging stay."""
    tokens = tokens_of(16)
    spent = {
        share: flops(salience_encoder(*share), tokens, pyramid_of(tokens))
        for share in [(1.0, 1.0), (0.5, 1.0), (0.5, 0.5)]
    }
    whole, half, quarter = spent.values()
    assert whole - half == pytest.approx(2 * (half - quarter), rel=0.02)
    assert quarter < 0.5 * whole


def test_salience_filtering_is_linear_in_tokens() -> None:
    """Dense attention among the best has a fixed size: four times the tokens, four times the work and never more."""
    small, large = (
        flops(salience_encoder(0.5, 0.5), tokens, pyramid_of(tokens)) for tokens in (tokens_of(8), tokens_of(16))
    )
    assert large < 4.05 * small


def test_salience_filtering_calls_do_not_grow_with_tokens_or_images() -> None:
    encoder = salience_encoder(0.5, 0.5)
    works = [
        tensor_work(encoder, tokens, pyramid_of(tokens)) for tokens in (tokens_of(8), tokens_of(20), tokens_of(8, 5))
    ]
    assert len({work.calls for work in works}) == 1


def scene(rows: int, batch: int = 2) -> tuple[Memory, Proposals]:
    tokens = tokens_of(rows, batch)
    logits, boxes = torch.randn(*tokens.padding.shape, 3), torch.rand(*tokens.padding.shape, 4)
    return Memory.of(tokens), Proposals(logits, boxes, tokens.content, torch.rand(tokens.padding.shape) < 0.9)


SELECTIONS: dict[str, Callable[[], Any]] = {
    "topk": TopK,
    "stratified": lambda: StratifiedTopK({10: (0.6, 0.4), 300: (0.9, 0.1)}),
    "suppressed": SuppressedTopK,
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selecting_does_not_loop_over_queries_or_tokens(name: str) -> None:
    """As many calls and lines of Python for 100 of 500 tokens as for 5 of 80."""
    selection = SELECTIONS[name]()
    few, many = ((*scene(rows), QueryBudget(size)) for rows, size in ((8, 5), (20, 100)))
    assert tensor_work(selection, *few).calls == tensor_work(selection, *many).calls
    assert python_lines(selection, *few) == python_lines(selection, *many)


@pytest.mark.parametrize("name", SELECTIONS)
def test_selecting_loops_over_images_only_to_suppress(name: str) -> None:
    """Suppression goes image by image, because its cost is square in the boxes of a call; nothing else does."""
    selection, budget = SELECTIONS[name](), QueryBudget(10)
    two, three, eight = (tensor_work(selection, *scene(8, batch), budget).calls for batch in (2, 3, 8))
    per_image = three - two
    assert eight - two == 6 * per_image
    assert per_image <= (5 if name == "suppressed" else 0)


def test_own_numbers_of_queries_cost_no_call_per_image() -> None:
    selection = SELECTIONS["stratified"]()
    two, six = (
        tensor_work(selection, *scene(8, batch), QueryBudget(20, torch.arange(batch) + 10)).calls for batch in (2, 6)
    )
    assert two == six


def cells_of(count: int, rows: int) -> Cells:
    """So many cells of one map, far enough apart that no two are neighbors."""
    chosen = torch.zeros(1, rows, rows, dtype=torch.bool)
    places = torch.stack(torch.meshgrid(*[torch.arange(1, rows - 1, 3)] * 2, indexing="ij"), dim=-1).flatten(0, 1)
    chosen[0, places[:count, 0], places[:count, 1]] = True
    return Cells.where(chosen)


def head() -> list[Branch]:
    """A class and a box branch of two layers."""

    def kernel(outputs: int) -> Kernel:
        return Kernel(torch.randn(outputs, WIDTH, 3, 3), torch.randn(outputs))

    return [Branch((kernel(WIDTH), kernel(WIDTH)), (kernel(outputs),)) for outputs in (3, 4)]


def test_sparse_heads_cost_their_active_cells_and_not_the_map() -> None:
    """Operations are those of the active cells; a map four times as large costs nothing more."""
    branches = head()
    spent = {}
    for count, rows in ((20, 40), (40, 40), (40, 80)):
        cells = cells_of(count, rows)
        spent[count, rows] = flops(on_cells, torch.randn(1, WIDTH, rows, rows), branches, cells, cells)
    assert spent[20, 40] == 20 * 2 * 9 * WIDTH * (2 * 2 * WIDTH + 3 + 4)
    assert spent[40, 40] == spent[40, 80] == 2 * spent[20, 40]


def test_sparse_heads_loop_over_chunks_of_cells_and_not_over_cells() -> None:
    branches, features = head(), torch.randn(1, WIDTH, 80, 80)
    few, many = (cells_of(count, 80) for count in (5, GATHERED_CELLS["cpu"]))
    assert tensor_work(on_cells, features, branches, few, few).calls == (
        tensor_work(on_cells, features, branches, many, many).calls
    )
    assert python_lines(on_cells, features, branches, few, few) == python_lines(
        on_cells, features, branches, many, many
    )


def test_the_cascade_names_cells_without_a_loop() -> None:
    """As many calls for one key as for all of them, for any size of map and batch."""
    cascade = CascadeSparseQuery()
    works = []
    for rows, batch, logit in ((8, 1, -9.0), (8, 1, 9.0), (24, 3, 9.0)):
        logits = torch.full((batch, rows, rows), logit)
        logits[:, 0, 0] = 9.0
        works.append(tensor_work(cascade.keys, logits, (2 * rows, 2 * rows)).calls)
    assert len(set(works)) == 1


def pattern_mixing(queries: int, patterns: int) -> PatternMixing:
    return PatternMixing(FactorizedTable(queries, patterns, WIDTH), WIDTH, 2, extractor_width=8).eval()


def test_mixing_patterns_is_one_product_for_all_queries() -> None:
    """Weights times patterns: two operations per image, query, pattern and channel, and no call more."""
    works = []
    for queries, patterns, batch in ((10, 5, 2), (200, 50, 2), (10, 5, 6)):
        tokens = tokens_of(8, batch)
        memory = pattern_mixing(queries, patterns)(Memory.of(tokens), pyramid_of(tokens))
        places = Places(torch.zeros(batch, queries, 4))
        assert flops(PatternContent(), memory, places) == 2 * batch * queries * patterns * WIDTH
        works.append(
            (tensor_work(PatternContent(), memory, places).calls, python_lines(PatternContent(), memory, places))
        )
    assert len(set(works)) == 1


def test_describing_the_image_calls_as_often_for_any_number_of_queries_and_patterns() -> None:
    few, many = (pattern_mixing(*sizes) for sizes in ((10, 5), (200, 50)))
    tokens, larger = tokens_of(8), tokens_of(16, 5)
    calls = [
        tensor_work(mixing, Memory.of(seen), pyramid_of(seen)).calls
        for mixing, seen in ((few, tokens), (many, tokens), (few, larger))
    ]
    assert len(set(calls)) == 1
