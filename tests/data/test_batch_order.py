"""Every image once per epoch, ranks disjoint, shapes together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.batch_order import BatchOrder


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 3), st.booleans())
def test_ranks_share_an_epoch(count: int, batch_size: int, world_size: int, grouped: bool) -> None:
    ratios = np.random.default_rng(count).uniform(0.3, 3, count) if grouped else None
    orders = [BatchOrder(count, batch_size, 5, ratios, rank, world_size) for rank in range(world_size)]
    epochs = [order.epoch(2) for order in orders]
    assert all(len(epoch) == len(orders[0]) for epoch in epochs)
    used = [key.index for epoch in epochs for batch in epoch for key in batch]
    if count >= batch_size * world_size:
        assert len(set(used)) == len(used) == len(orders[0]) * batch_size * world_size
        assert count - len(used) < batch_size * world_size
    else:
        assert set(used) == set(range(count))


def test_two_ranks_split_the_batches_of_one() -> None:
    ratios = np.linspace(0.5, 2, 20)
    single = BatchOrder(20, 4, 1, ratios).epoch(0)
    ranks = [BatchOrder(20, 2, 1, ratios, rank, 2).epoch(0) for rank in range(2)]
    assert [left + right for left, right in zip(*ranks, strict=True)] == single


def test_epochs_and_seeds_differ() -> None:
    first = [key.index for batch in BatchOrder(30, 3, 0).epoch(0) for key in batch]
    assert first == [key.index for batch in BatchOrder(30, 3, 0).epoch(0) for key in batch]
    assert first != [key.index for batch in BatchOrder(30, 3, 0).epoch(1) for key in batch]
    assert first != [key.index for batch in BatchOrder(30, 3, 1).epoch(0) for key in batch]


def test_grouping_brings_similar_shapes_together() -> None:
    ratios = np.random.default_rng(0).uniform(0.3, 3, 200)

    def spread(order: BatchOrder) -> float:
        return float(np.mean([np.ptp([ratios[key.index] for key in batch]) for batch in order.epoch(0)]))

    assert spread(BatchOrder(200, 4, 0, ratios)) < spread(BatchOrder(200, 4, 0)) / 5
