"""Patterns are pushed apart: orthogonal ones cost nothing, identical ones 1."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.losses.pattern_diversity import PatternDiversity, pattern_similarity
from smidgen.queries.pattern_content import PatternWeights
from smidgen.structures import DetectorOutput, Predictions

FORMS = ("abs", "signed", "sq")


def _output(*evidence: object) -> DetectorOutput:
    return DetectorOutput(Predictions(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4)), evidence=evidence)


@pytest.mark.parametrize("form", FORMS)
def test_orthogonal_patterns_cost_nothing_and_identical_ones_1(form) -> None:
    assert pattern_similarity(3.0 * torch.eye(5, 8), form).item() == 0.0
    assert pattern_similarity(torch.randn(1, 8).expand(5, 8), form).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_single_pattern_costs_nothing(form) -> None:
    assert pattern_similarity(torch.randn(1, 8), form).item() == 0.0


def test_opposite_patterns_are_as_bad_as_identical_ones_but_for_the_sign() -> None:
    pair = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
    assert [pattern_similarity(pair, form).item() for form in FORMS] == [1.0, -1.0, 1.0]


@given(num_patterns=st.integers(2, 9), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 999))
def test_only_directions_count_and_bounds_hold(num_patterns, scale, seed) -> None:
    patterns = torch.randn(num_patterns, 6, generator=torch.Generator().manual_seed(seed))
    absolute, signed, squared = (pattern_similarity(patterns, form).item() for form in FORMS)
    assert -1 / (num_patterns - 1) - 1e-5 <= signed <= absolute + 1e-6 <= 1 + 2e-6
    assert squared <= absolute + 1e-6
    assert pattern_similarity(scale * patterns, "abs").item() == pytest.approx(absolute, abs=1e-5)


def test_a_step_down_the_gradient_makes_patterns_more_diverse() -> None:
    patterns = torch.randn(6, 8, requires_grad=True)
    before = pattern_similarity(patterns)
    before.backward()
    assert patterns.grad is not None
    after = pattern_similarity(patterns.detach() - 0.05 * patterns.grad)
    assert after < before


def test_the_term_reads_the_patterns_of_the_model() -> None:
    patterns = torch.randn(4, 8)
    losses = PatternDiversity()(_output(PatternWeights(torch.ones(1, 2, 4) / 4, patterns)), (), 0.5)
    assert losses.keys() == {"diversity"}
    assert torch.equal(losses["diversity"], pattern_similarity(patterns, "abs"))


def test_a_model_without_patterns_has_no_such_loss() -> None:
    assert PatternDiversity()(_output(), (), 0.0) == {}
