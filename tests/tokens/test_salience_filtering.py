"""Which tokens an encoder layer refines, and what happens to the others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smidgen.nn.deformable_layers import DeformableEncoderLayer
from smidgen.queries.proposals import ProposalHead
from smidgen.structures import FeaturePyramid, Memory, Tokens, evidence_of
from smidgen.tokens.background_embedding import BackgroundEmbedding
from smidgen.tokens.salience_filtering import AttentionAmongBest, SalienceFilteredEncoder, SalienceMaps

WIDTH, SHAPES = 16, ((8, 12), (4, 6))
PYRAMID = FeaturePyramid((), (), (), torch.zeros(1, 64, 96, dtype=torch.bool))


class Given(nn.Module):
    """Salience maps as they are given."""

    def __init__(self, *maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, tokens: Tokens) -> tuple[Tensor, ...]:
        return self.maps


def tokens(images_hw: list[tuple[int, int]]) -> Tokens:
    """Tokens of images of so many cells on the fine level."""
    torch.manual_seed(0)
    paddings, shares = [], []
    for rows, columns in SHAPES:
        padding = torch.ones(len(images_hw), rows, columns, dtype=torch.bool)
        for image, (height, width) in enumerate(images_hw):
            padding[image, : height * rows // 8, : width * columns // 12] = False
        paddings.append(padding.flatten(1))
        shares.append(torch.tensor([[width / 12, height / 8] for height, width in images_hw]))
    content = torch.randn(len(images_hw), 120, WIDTH)
    return Tokens(
        content, torch.randn_like(content), torch.cat(paddings, 1), torch.stack(shares, 1), SHAPES, strides=(8, 16)
    )


def encoder(maps: list[Tensor], background: bool = False, **options: object) -> SalienceFilteredEncoder:
    torch.manual_seed(0)
    settings: dict[str, object] = {"level_ratios": (0.5, 1.0), "layer_ratios": (1.0, 0.5)}
    return SalienceFilteredEncoder(
        lambda: DeformableEncoderLayer(WIDTH, 2, 2, 2, 16),
        lambda: AttentionAmongBest(WIDTH, 2, best=8),
        salience=Given(*maps),
        proposals=ProposalHead(WIDTH, 3),
        background=BackgroundEmbedding(WIDTH, 6) if background else None,
        **(settings | options),
    ).eval()


def random_maps(batch: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *shape, generator=generator) for shape in SHAPES]


def refined(memory: Memory) -> SalienceMaps:
    maps = evidence_of(memory.evidence, SalienceMaps)
    assert maps is not None
    return maps


def chosen(memory: Memory, layer: int, image: int) -> set[int]:
    active = refined(memory).refined[layer]
    return set(active.index[image][~active.padding[image]].tolist())


@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(2, 8), st.integers(2, 12)), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_each_layer_refines_its_share_of_the_most_salient_valid_tokens(
    seed: int, images_hw: list[tuple[int, int]]
) -> None:
    batch = tokens(images_hw)
    maps = random_maps(len(images_hw), seed)
    memory = encoder(maps)(batch, PYRAMID)
    for image in range(len(images_hw)):
        valid = ~batch.padding[image]
        scores = [
            level[image].flatten().masked_fill(~part, -torch.inf)
            for level, part in zip(maps, valid.split([96, 24]), strict=True)
        ]
        quotas = [int(valid[:96].sum() * 0.5), int(valid[96:].sum())]
        best = {int(index) for index in scores[0].topk(quotas[0]).indices}
        best |= {int(index) + 96 for index in scores[1].topk(quotas[1]).indices}
        first, second = chosen(memory, 0, image), chosen(memory, 1, image)
        assert first == best, "per level: the most salient tokens of the image"
        assert second <= first, "deeper layers refine a part of what the layer before refined"
        assert len(second) == max(1, len(first) // 2)
        flat = torch.cat(scores)
        assert flat[list(second)].min() >= max((flat[index] for index in first - second), default=-torch.inf)


@torch.no_grad()
def test_tokens_that_are_not_selected_keep_their_content() -> None:
    batch = tokens([(8, 12), (4, 6)])
    memory = encoder(random_maps(2))(batch, PYRAMID)
    for image in range(2):
        changed = (memory.tokens.content[image] != batch.content[image]).any(dim=-1).nonzero().flatten().tolist()
        assert set(changed) == chosen(memory, 0, image)


@torch.no_grad()
def test_values_stay_the_encoders_input_in_every_layer() -> None:
    """The official encoder never refreshes what tokens attend to (specification, section 7)."""
    seen: list[Tensor] = []
    network, batch = encoder(random_maps(1)), tokens([(8, 12)])
    for layer in network.layers:
        layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[3]))
    network(batch, PYRAMID)
    assert all(torch.equal(value, batch.content) for value in seen)


@torch.no_grad()
def test_the_background_embedding_marks_what_the_last_layer_left_alone() -> None:
    batch = tokens([(4, 6)])
    network = encoder(random_maps(1), background=True)
    marked = network(batch, PYRAMID)
    network.background = None
    plain = network(batch, PYRAMID)
    changed = (plain.tokens.content[0] != marked.tokens.content[0]).any(dim=-1)
    expected = ~batch.padding[0]
    expected[list(chosen(plain, 1, 0))] = False
    assert torch.equal(changed, expected), "neither refined nor padded tokens"


@torch.no_grad()
def test_a_map_larger_than_the_background_table_reads_it_interpolated() -> None:
    embedding, batch = BackgroundEmbedding(WIDTH, 6), tokens([(8, 12)])
    added = embedding(batch, torch.ones_like(batch.padding)) - batch.content
    fine = added[0, :96].unflatten(0, (8, 12))
    torch.testing.assert_close(fine[0, -1, : WIDTH // 2], embedding.column.weight[-1])
    torch.testing.assert_close(fine[-1, 0, WIDTH // 2 :], embedding.row.weight[-1])
    assert fine.isfinite().all()


@torch.no_grad()
def test_officially_the_fullest_image_decides_for_all() -> None:
    batch = tokens([(8, 12), (4, 6)])
    own, official = (refined(encoder(random_maps(2), per_batch=flag)(batch, PYRAMID)) for flag in (False, True))
    assert (~own.refined[1].padding).sum(1).tolist() == [36, 9]
    assert (~official.refined[1].padding).sum(1).tolist() == [36, 18], "the layer's ratio does not shrink its count"


def test_probabilities_do_not_take_two_low_values_for_a_high_one() -> None:
    network = encoder(random_maps(1), best_by="probabilities")
    low, high = torch.tensor([[-5.0]]), torch.tensor([[1.0]])
    assert network._best(low, low) < network._best(high, high)
    official = encoder(random_maps(1))
    assert official._best(low, low) > official._best(high, high)


def test_ratios_are_checked() -> None:
    with pytest.raises(ValueError, match="level ratios in \\(0, 1\\]"):
        encoder(random_maps(1), level_ratios=(0.0, 1.0))
    with pytest.raises(ValueError, match="one level ratio for each of 2 levels"):
        encoder(random_maps(1), level_ratios=(1.0,))(tokens([(8, 12)]), PYRAMID)


@pytest.mark.parametrize(("count", "ratio"), [(5, 0.6), (10, 0.7), (1000, 0.2), (7, 1.0), (3, 0.25)])
def test_shares_round_as_decimals_do(count: int, ratio: float) -> None:
    """In double precision 5 * 0.6 is below 3, and 10 * 0.7 is below 7 in single precision before it is rounded."""
    from smidgen.tokens.salience_filtering import _share, _single_precision_share

    assert _share(count, ratio) == _single_precision_share(count, ratio) == int(round(count * ratio * 100) // 100)
