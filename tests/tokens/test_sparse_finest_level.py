"""Which tokens of the finest level exist, and that the others are neither computed nor read nor proposed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smidgen.nn.deformable_layers import DeformableEncoderLayer
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.topk import TopK
from smidgen.structures import FeaturePyramid, Memory, QueryBudget, Tokens, evidence_of
from smidgen.tokens.active_encoder import ActiveEncoder
from smidgen.tokens.coarse_first import CoarseFirst
from smidgen.tokens.deformable_encoder import DeformableEncoder
from smidgen.tokens.sparse_finest_level import FinestLevel, FinestLevelQuery, SparseFinestLevel

WIDTH, SHAPES = 16, ((11, 14), (6, 7), (3, 4))


class Given(nn.Module):
    """Logits as they are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, features: Tensor, padding: Tensor) -> Tensor:
        return self.logits


def layer() -> DeformableEncoderLayer:
    """One whose sampling places and weights depend on the query, unlike those of a fresh layer."""
    made = DeformableEncoderLayer(WIDTH, 2, len(SHAPES), 2, 32)
    nn.init.normal_(made.attention.sampling_offsets.weight, std=0.3)
    nn.init.normal_(made.attention.attention_weights.weight, std=0.3)
    nn.init.normal_(made.attention.value_proj.bias)
    return made


def pyramid(images_hw: list[tuple[int, int]], shapes: tuple[tuple[int, int], ...] = SHAPES) -> FeaturePyramid:
    """Maps of images of so many cells on the finest level; an image's features do not depend on its batch."""
    levels, paddings = [], []
    for level, (rows, columns) in enumerate(shapes):
        features = torch.full((len(images_hw), WIDTH, rows, columns), 9.0)
        padding = torch.ones(len(images_hw), rows, columns, dtype=torch.bool)
        for image, (height, width) in enumerate(images_hw):
            own = (min(rows, -(-height // 2**level)), min(columns, -(-width // 2**level)))
            generator = torch.Generator().manual_seed(100 * height + width + level)
            features[image, :, : own[0], : own[1]] = torch.randn(WIDTH, *own, generator=generator)
            padding[image, : own[0], : own[1]] = False
        levels.append(features)
        paddings.append(padding)
    canvas = torch.zeros(len(images_hw), 4 * shapes[0][0], 4 * shapes[0][1], dtype=torch.bool)
    return FeaturePyramid(tuple(levels), tuple(paddings), (4, 8, 16), canvas)


def tokens(maps: FeaturePyramid) -> Tokens:
    content = torch.cat([level.flatten(2).transpose(1, 2) for level in maps.levels], dim=1)
    shares = [
        torch.stack([(~mask[:, 0]).float().mean(1), (~mask[:, :, 0]).float().mean(1)], dim=-1) for mask in maps.padding
    ]
    padding = torch.cat([mask.flatten(1) for mask in maps.padding], dim=1)
    return Tokens(content, content.roll(1, -1), padding, torch.stack(shares, 1), maps.shapes, maps.strides)


def sparse(
    query: nn.Module | None = None, *, own_layers: int = 0, stand_in: str = "zero", **options: object
) -> nn.Module:
    torch.manual_seed(0)
    encoder: nn.Module = ActiveEncoder(layer, 2, stand_in=stand_in)
    if own_layers:
        coarse = DeformableEncoder(lambda: DeformableEncoderLayer(WIDTH, 2, len(SHAPES) - 1, 2, 32), 1)
        encoder = CoarseFirst(coarse, ActiveEncoder(layer, own_layers, stand_in=stand_in, queries="finest"))
    return SparseFinestLevel(query or FinestLevelQuery(WIDTH), encoder, **options).eval()


def evidence(memory: Memory) -> FinestLevel:
    level = evidence_of(memory.evidence, FinestLevel)
    assert level is not None
    return level


def chosen(memory: Memory, image: int) -> set[int]:
    active = evidence(memory).chosen
    return set(active.index[image][~active.padding[image]].tolist())


def encode(encoder: nn.Module, maps: FeaturePyramid) -> Memory:
    memory: Memory = encoder(tokens(maps), maps)
    return memory


IMAGES = [(11, 14), (7, 9), (4, 13)]


@pytest.mark.parametrize("stand_in", ["zero", "projected"])
@torch.no_grad()
def test_the_whole_level_equals_the_dense_encoder(stand_in: str) -> None:
    torch.manual_seed(1)
    dense, maps = DeformableEncoder(layer, 2).eval(), pyramid(IMAGES)
    part = sparse(share=1.0, stand_in=stand_in)
    part.encoder.load_state_dict(dense.state_dict())
    expected, memory = encode(dense, maps), encode(part, maps)
    shown = ~tokens(maps).padding
    torch.testing.assert_close(memory.tokens.content[shown], expected.tokens.content[shown], atol=1e-5, rtol=0)
    assert torch.equal(memory.proposal_tokens.padding, expected.tokens.padding)


@pytest.mark.parametrize("own_layers", [0, 1])
@torch.no_grad()
def test_only_the_children_of_the_best_cells_are_refined_and_proposed(own_layers: int) -> None:
    logits = torch.full((1, 6, 7), -3.0)
    logits[0, 1, 2], logits[0, 5, 6] = 4.0, 3.0
    maps = pyramid([(11, 14)])
    memory = encode(sparse(Given(logits), own_layers=own_layers, share=2 / 42), maps)
    # The last row has one row of children only: 11 = 2 x 5 + 1.
    expected = {2 * 14 + 4, 2 * 14 + 5, 3 * 14 + 4, 3 * 14 + 5, 10 * 14 + 12, 10 * 14 + 13}
    assert chosen(memory, 0) == expected
    before = tokens(maps)
    refined = (memory.tokens.content != before.content).any(dim=-1)[0].nonzero().flatten().tolist()
    assert set(refined) == expected | set(range(before.starts[1], before.starts[-1]))
    proposed = ~memory.proposal_tokens.padding[0, : before.starts[1]]
    assert set(proposed.nonzero().flatten().tolist()) == expected


@torch.no_grad()
def test_no_unchosen_token_is_selected() -> None:
    torch.manual_seed(0)
    memory, head = encode(sparse(share=0.1), pyramid(IMAGES)), ProposalHead(WIDTH, 3)
    places = TopK()(memory, head(memory.proposal_tokens), QueryBudget(200))
    assert places.token_index is not None and places.padding is not None
    for image in range(3):
        selected = places.token_index[image][~places.padding[image]]
        assert set(selected[selected < memory.tokens.starts[1]].tolist()) <= chosen(memory, image)


@pytest.mark.parametrize(("stand_in", "reads"), [("zero", False), ("projected", True)])
@pytest.mark.parametrize("own_layers", [0, 1])
@torch.no_grad()
def test_unchosen_values_are_read_only_where_they_have_a_stand_in(own_layers: int, stand_in: str, reads: bool) -> None:
    maps = pyramid([(11, 14)])
    part = sparse(Given(torch.randn(1, 6, 7)), own_layers=own_layers, stand_in=stand_in, share=0.3)
    first = encode(part, maps)
    left_out = torch.ones(154, dtype=torch.bool)
    left_out[list(chosen(first, 0))] = False
    finest = maps.levels[0].clone().flatten(2)
    finest[..., left_out] += torch.randn(WIDTH, 1)
    second = encode(part, replace(maps, levels=(finest.unflatten(2, SHAPES[0]), *maps.levels[1:])))
    rows = ~first.proposal_tokens.padding[0]
    same = torch.allclose(first.tokens.content[0, rows], second.tokens.content[0, rows], atol=1e-6)
    assert same != reads
    assert bool(first.tokens.padding[0, :154][left_out].all()) != reads


sizes = st.tuples(st.integers(1, 11), st.integers(1, 14))


@given(st.lists(sizes, min_size=1, max_size=3), st.floats(0.02, 1.0), st.integers(0, 2), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
@torch.no_grad()
def test_every_image_keeps_to_the_share_of_its_own_cells(
    images_hw: list[tuple[int, int]], share: float, context: int, seed: int
) -> None:
    logits = torch.randn(len(images_hw), 6, 7, generator=torch.Generator().manual_seed(seed))
    maps = pyramid(images_hw)
    part = sparse(Given(logits), share=share, context=context)
    memory = encode(part, maps)
    level = evidence(memory)
    own = (~maps.padding[1]).sum(dim=(1, 2))
    assert level.cells.sum(dim=(1, 2)).tolist() == [
        -(-int(count) * part.share.numerator // part.share.denominator) for count in own
    ]
    assert not (level.cells & maps.padding[1]).any()
    for image, (height, width) in enumerate(images_hw):
        picked = chosen(memory, image)
        assert all(token // 14 < height and token % 14 < width for token in picked)
        assert len(picked) <= 4 * int(level.cells[image].sum())
        assert level.share[image].item() == pytest.approx(len(picked) / (height * width))


@torch.no_grad()
def test_without_context_the_cells_are_the_best_scored() -> None:
    logits = torch.randn(1, 6, 7)
    cells = evidence(encode(sparse(Given(logits), share=10 / 42), pyramid([(11, 14)]))).cells
    assert logits[cells].min() > logits[~cells].max()
    assert int(cells.sum()) == 10


@torch.no_grad()
def test_context_takes_the_neighbors_of_the_best_cell_along() -> None:
    logits = torch.zeros(1, 6, 7)
    logits[0, 2, 3], logits[0, 5, 0] = 5.0, 4.0
    cells = evidence(encode(sparse(Given(logits), share=9 / 42, context=1), pyramid([(11, 14)]))).cells
    expected = torch.zeros_like(cells)
    expected[0, 1:4, 2:5] = True
    assert torch.equal(cells, expected)


@torch.no_grad()
def test_threshold_drops_cells_within_the_share() -> None:
    logits = torch.full((1, 6, 7), -1.0)
    logits[0, 2, 3] = 1.0
    cells = evidence(encode(sparse(Given(logits), share=0.5, threshold=0.5), pyramid([(11, 14)]))).cells
    assert cells.nonzero().tolist() == [[0, 2, 3]]


@torch.no_grad()
def test_nothing_above_the_threshold_leaves_the_coarser_levels() -> None:
    memory = encode(sparse(threshold=0.99), pyramid([(11, 14)]))
    assert memory.proposal_tokens.padding[0, :154].all()
    assert memory.tokens.content.isfinite().all()


@pytest.mark.parametrize("own_layers", [0, 1])
@pytest.mark.parametrize("stand_in", ["zero", "projected"])
@pytest.mark.parametrize("context", [0, 1])
@torch.no_grad()
def test_a_batch_equals_its_singles_on_any_canvas(own_layers: int, stand_in: str, context: int) -> None:
    part = sparse(own_layers=own_layers, stand_in=stand_in, share=0.2, context=context)
    batch = encode(part, pyramid(IMAGES))
    larger = ((16, 20), (8, 10), (4, 5))
    for canvas in (SHAPES, larger):
        for image, size_hw in enumerate(IMAGES):
            single = encode(part, pyramid([size_hw], canvas))
            for memory_tokens, others in (
                (single.tokens, batch.tokens),
                (single.proposal_tokens, batch.proposal_tokens),
            ):
                found = memory_tokens.content[0][~memory_tokens.padding[0]]
                expected = others.content[image][~others.padding[image]]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_gradients_reach_query_head_through_its_logits_and_layers_through_the_memory() -> None:
    part = sparse(share=0.2).train()
    memory = encode(part, pyramid(IMAGES))
    (evidence(memory).logits.square().mean() + memory.tokens.content.square().mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in part.query.parameters())
    assert all(parameter.grad is not None for parameter in part.encoder.parameters())


@pytest.mark.parametrize("own_layers", [0, 1])
def test_activation_checkpointing_gives_the_same_gradients(own_layers: int) -> None:
    gradients = []
    for checkpointing in (False, True):
        part = sparse(own_layers=own_layers, share=0.2).train()
        part.checkpoint_activations = checkpointing
        assert part.checkpoint_activations == checkpointing
        memory = encode(part, pyramid(IMAGES))
        (memory.tokens.content * memory.tokens.position).sum().backward()
        gradients.append([parameter.grad for parameter in part.encoder.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.5}, {"context": -1}, {"threshold": 1.0}], ids=str)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"change model\.sparse_finest"):
        sparse(**options)


def test_levels_that_do_not_halve_are_refused() -> None:
    maps = pyramid([(11, 14)], ((11, 14), (5, 7), (3, 4)))
    with pytest.raises(ValueError, match="half the cells of the finest"):
        encode(sparse(), maps)


def test_an_encoder_of_active_tokens_needs_to_be_told_which() -> None:
    with pytest.raises(ValueError, match="use DeformableEncoder"):
        encode(ActiveEncoder(layer, 1), pyramid([(11, 14)]))
