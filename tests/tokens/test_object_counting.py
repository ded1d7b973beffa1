"""Counters: classes of counts, padding, cost."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from smidgen.tokens.object_counting import CategoricalCounter, LightCounter

COUNTERS = [CategoricalCounter, LightCounter]


def test_the_paper_s_counter_has_its_parameters() -> None:
    assert sum(parameter.numel() for parameter in CategoricalCounter(256).parameters()) == 9_572_100


@pytest.mark.parametrize("counter", COUNTERS)
def test_one_class_more_than_thresholds_and_a_map_of_the_same_resolution(counter: type) -> None:
    part = counter(32, (5, 50))
    count, guide = part(torch.randn(2, 32, 5, 7), torch.zeros(2, 5, 7, dtype=torch.bool))
    assert count.logits.shape == (2, 3)
    assert count.thresholds == (5, 50)
    assert guide.shape == (2, part.out_channels, 5, 7)


@pytest.mark.parametrize("counter", COUNTERS)
@torch.no_grad()
def test_what_pads_the_map_changes_nothing(counter: type) -> None:
    part = counter(32)
    seen = torch.randn(1, 32, 5, 7)
    canvas = torch.full((1, 32, 12, 9), 7.0)
    canvas[..., :5, :7] = seen
    padding = torch.ones(1, 12, 9, dtype=torch.bool)
    padding[:, :5, :7] = False
    alone, guide = part(seen, torch.zeros(1, 5, 7, dtype=torch.bool))
    padded, padded_guide = part(canvas, padding)
    torch.testing.assert_close(padded.logits, alone.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded_guide[..., :5, :7], guide, atol=1e-5, rtol=0)
    assert (padded_guide[:, :, padding[0]] == 0).all()


@pytest.mark.parametrize("counter", COUNTERS)
@torch.no_grad()
def test_the_official_counter_also_reads_the_padding(counter: type) -> None:
    features, padding = torch.randn(1, 32, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    padding[:, 4:] = True
    part = counter(32, mask_padding=False)
    unpadded = part(features, torch.zeros_like(padding))[0].logits
    assert torch.equal(part(features, padding)[0].logits, unpadded)
    part.mask_padding = True
    assert not torch.allclose(part(features, padding)[0].logits, unpadded)


@torch.no_grad()
def test_the_light_counter_sees_that_twice_the_scene_holds_twice_the_objects() -> None:
    """A mean over the map is the same for both; the sums of densities are not."""
    part = LightCounter(16)
    sums: list[torch.Tensor] = []
    part.classifier.register_forward_hook(lambda module, arguments, answer: sums.append(arguments[0][:, -8:]))
    scene = torch.randn(1, 16, 32, 32)
    for repeats in (1, 2):
        part(scene.repeat(1, 1, 1, repeats), torch.zeros(1, 32, 32 * repeats, dtype=torch.bool))
    ratio = sums[1].expm1() / sums[0].expm1()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0), atol=0.2, rtol=0)


def test_the_light_counter_costs_less_than_a_fiftieth() -> None:
    cost = []
    for counter in COUNTERS:
        with FlopCounterMode(display=False) as flops, torch.device("meta"):
            counter(256)(torch.zeros(1, 256, 200, 200), torch.zeros(1, 200, 200, dtype=torch.bool))
        cost.append(flops.get_total_flops() / 2e9)
    assert cost[0] == pytest.approx(382.7, abs=0.1)  # GMAC, the specification's figure
    assert cost[1] < cost[0] / 50


@pytest.mark.parametrize("counter", COUNTERS)
def test_one_cell_can_be_counted_and_learned_from(counter: type) -> None:
    part = counter(16).train()
    part(torch.randn(1, 16, 1, 1), torch.zeros(1, 1, 1, dtype=torch.bool))[0].logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in part.parameters())


@pytest.mark.parametrize("thresholds", [(), (10, 5), (10, 10)])
def test_thresholds_must_ascend(thresholds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="count_thresholds"):
        LightCounter(16, thresholds)


@torch.no_grad()
def test_the_light_counter_is_undecided_before_it_has_learned() -> None:
    """Sums over many cells are large: they may not decide before anything is learned."""
    counter = LightCounter(16)
    counts, _ = counter(torch.randn(2, 16, 80, 80), torch.zeros(2, 80, 80, dtype=torch.bool))
    assert counts.logits.softmax(dim=1).max() < 0.95
