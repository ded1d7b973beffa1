"""How many patterns a model uses, and the same model without the others."""

from __future__ import annotations

import pytest
import torch
from mixing_cases import (
    HEADS,
    NUM_LEVELS,
    NUM_PATTERNS,
    NUM_QUERIES,
    WIDTH,
    image_maps,
    mixed_memory,
    mixing_evidence,
    pattern_mixing,
    places_for,
)
from torch import Tensor

from smidgen.queries.pattern_content import PatternContent, PatternMixing, mixing_weights
from smidgen.queries.pattern_usage import (
    effective_patterns,
    keep_patterns,
    most_used,
    pattern_usage,
    split_patterns,
    weight_entropy,
)


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
    mixing = pattern_mixing(head)
    index = most_used(torch.rand(NUM_PATTERNS), NUM_PATTERNS)
    contents = [
        PatternContent()(mixed_memory(stage, [image_maps((5, 4))], (5, 4)), places_for(NUM_QUERIES))
        for stage in (mixing, _reduced(mixing, head, index))
    ]
    assert torch.equal(*contents)


@pytest.mark.parametrize("head", HEADS)
def test_removing_unused_patterns_changes_nothing(head) -> None:
    mixing, unused = pattern_mixing(head), torch.tensor([1, 4])
    with torch.no_grad():
        bias = mixing.head.b if head == "factorized" else mixing.head.fc2.bias.view(NUM_QUERIES, NUM_PATTERNS)
        bias[:, unused] -= 60.0
    memory = mixed_memory(mixing, [image_maps((5, 4))], (5, 4))
    index = most_used(pattern_usage([mixing_evidence(memory).weights]), NUM_PATTERNS - 2)
    assert not set(index.tolist()) & set(unused.tolist())
    reduced = mixed_memory(_reduced(mixing, head, index), [image_maps((5, 4))], (5, 4))
    before, after = (PatternContent()(mixed, places_for(NUM_QUERIES)) for mixed in (memory, reduced))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("head", HEADS)
def test_split_patterns_answer_as_before_and_can_part(head) -> None:
    mixing, split = pattern_mixing(head, temperature=2.0), [5, 0]
    grown = PatternMixing(
        HEADS[head](NUM_QUERIES, NUM_PATTERNS + 2, WIDTH), WIDTH, NUM_LEVELS, extractor_width=8, temperature=2.0
    ).eval()
    original = {name: value.clone() for name, value in mixing.state_dict().items()}
    grown.load_state_dict(split_patterns(mixing.state_dict(), split, temperature=2.0))
    assert all(torch.equal(value, original[name]) for name, value in mixing.state_dict().items())
    before, after = (
        PatternContent()(mixed_memory(stage, [image_maps((5, 4))], (5, 4)), places_for(NUM_QUERIES))
        for stage in (mixing, grown)
    )
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert not torch.allclose(grown.patterns[5], grown.patterns[NUM_PATTERNS], atol=1e-2)


def test_patterns_inside_a_model_are_found_and_other_weights_kept() -> None:
    state = {f"encoder.stages.0.{name}": value for name, value in pattern_mixing().state_dict().items()} | {
        "other": torch.ones(2)
    }
    kept = keep_patterns(state, [2, 3])
    assert kept["encoder.stages.0.patterns"].shape == (2, WIDTH) and kept.keys() == state.keys()
    assert kept["other"] is state["other"]
    with pytest.raises(ValueError, match="with patterns"):
        keep_patterns({"other": torch.ones(2)}, [0])
    with pytest.raises(ValueError, match="between 1 and 3"):
        most_used(torch.ones(3), 4)
