"""Sampling by gathered corners against `grid_sample`, also outside of the maps, and exported for another size."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from smidgen.nn.sampling_gather import sample_with_gather
from smidgen.nn.sampling_grid import sample_with_grid

sides = st.integers(1, 7)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=3), st.integers(0, 10_000))
def test_same_as_grid_sample(shapes: list[tuple[int, int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    cells = sum(rows * columns for rows, columns in shapes)
    value = torch.randn(2, cells, 2, 3, generator=generator)
    locations = torch.rand(2, 5, 2, len(shapes), 4, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(2, 5, 2, len(shapes), 4, generator=generator)
    expected = sample_with_grid(value, shapes, locations, weights)
    torch.testing.assert_close(sample_with_gather(value, shapes, locations, weights), expected, atol=1e-5, rtol=1e-4)


class OnMap(nn.Module):
    def forward(self, level: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        value = level.permute(0, 2, 3, 1).flatten(1, 2)[:, :, None]
        return sample_with_gather(value, [(level.shape[2], level.shape[3])], locations, weights)


def test_exported_without_grid_sample_and_without_the_size_of_its_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(OnMap(), inputs(4, 6), dynamic_shapes=({2: free, 3: free}, None, None), strict=False)
    assert "grid_sampler" not in str(program.graph)
    other = inputs(7, 5)
    torch.testing.assert_close(program.module()(*other), OnMap()(*other))


def inputs(rows: int, columns: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    shapes = ((1, 3, rows, columns), (1, 4, 1, 1, 2, 2), (1, 4, 1, 1, 2))
    level, locations, weights = (torch.rand(shape, generator=generator) for shape in shapes)
    return level, locations, weights
