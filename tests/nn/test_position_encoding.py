"""Positions of cells: taken once for each row and column, equal to counting at every cell."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.nn.position_encoding import SinePosition, sine_features

WIDTH = 16


def counted_at_every_cell(position: SinePosition, padding: torch.Tensor) -> torch.Tensor:
    """The definition in DETR's code: running counts of shown cells over the whole map, in both directions."""
    counts = [(~padding).float().cumsum(dim) for dim in (1, 2)]
    last = counts[0][:, -1:], counts[1][:, :, -1:]
    shares = [(count + position.offset) / (end + 1e-6) for count, end in zip(counts, last, strict=True)]
    return torch.cat([sine_features(share, WIDTH // 2, position.temperature) for share in shares], dim=-1)


@settings(max_examples=30, deadline=None)
@given(
    images=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=3),
    offset=st.sampled_from([0.0, -0.5]),
)
def test_rows_and_columns_say_what_every_cell_would(images: list[tuple[int, int]], offset: float) -> None:
    padding = torch.ones(len(images), 5, 7, dtype=torch.bool)
    for image, (rows, columns) in enumerate(images):
        padding[image, :rows, :columns] = False
    position = SinePosition(WIDTH, 20.0, offset)
    assert torch.equal(position(padding), counted_at_every_cell(position, padding))


def test_width_must_hold_two_axes_of_sines_and_cosines() -> None:
    with pytest.raises(ValueError, match="divisible by 4"):
        SinePosition(6)
