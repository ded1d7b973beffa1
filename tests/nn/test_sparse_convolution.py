"""Submanifold convolutions give the numbers of dense ones on a map that is zero outside the active cells."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from smidgen.nn.sparse_convolution import Branch, Kernel, layer_tables, masked_dense, neighbor_rows, on_cells
from smidgen.structures import Cells
from smidgen.tokens.cascade_sparse_query import with_context

WIDTH = 3


def _kernel(outputs: int, size: int = 3) -> Kernel:
    return Kernel(torch.randn(outputs, WIDTH, size, size).double(), torch.randn(outputs).double())


def _branch(depth: int, *outputs: int, size: int = 3) -> Branch:
    return Branch(tuple(_kernel(WIDTH) for _ in range(depth)), tuple(_kernel(count, size) for count in outputs))


def _features(batch: int, shape: tuple[int, int]) -> Tensor:
    return torch.randn(batch, WIDTH, *shape).double()


def _chosen(batch: int, shape: tuple[int, int], share: float) -> Cells:
    return Cells.where(torch.rand(batch, *shape) < share)


def _assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


@given(
    st.integers(0, 2**20),
    st.integers(1, 2),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 4),
    st.sampled_from([1, 3]),
    st.floats(0.05, 1),
)
def test_sparse_equals_masked_dense(
    seed: int, batch: int, shape: tuple[int, int], depth: int, size: int, share: float
) -> None:
    torch.manual_seed(seed)
    active = _chosen(batch, shape, share)
    keys = Cells.where(active.mask() & (torch.rand(batch, *shape) < 0.5))
    branches = [_branch(depth, 4, 2, size=size), _branch(depth, 5, size=size)]
    features = _features(batch, shape)
    expected = masked_dense(features, branches, active, keys)
    for dense_share in (1.0, 0.0):
        _assert_same(on_cells(features, branches, active, keys, dense_share), expected)


def test_small_and_large_predictions_of_one_tower_differ_in_what_they_see() -> None:
    branch = Branch((_kernel(WIDTH),), (_kernel(2, size=1), _kernel(4, size=3)))
    features, active = _features(1, (6, 7)), _chosen(1, (6, 7), 0.6)
    keys = Cells.where(active.mask() & (torch.rand(1, 6, 7) < 0.3))
    _assert_same(on_cells(features, [branch], active, keys, 1.0), masked_dense(features, [branch], active, keys))


def test_masking_at_the_end_only_is_another_thing() -> None:
    features, branch, active = _features(1, (8, 8)), _branch(2, 3), _chosen(1, (8, 8), 0.3)
    everything = Cells.all_of(1, (8, 8))
    late = masked_dense(features, [branch], everything, active)[0]
    assert (late - on_cells(features, [branch], active, active)[0]).abs().max() > 0.1


def test_neighbors_are_found_row_by_row_and_none_beyond_the_border_or_in_another_image() -> None:
    cells = Cells.where(torch.tensor([[[1, 1], [0, 1]], [[1, 0], [0, 0]]]).bool())
    assert neighbor_rows(cells).tolist() == [
        [4, 4, 4, 4, 0, 1, 4, 4, 2],
        [4, 4, 4, 0, 1, 4, 4, 2, 4],
        [0, 1, 4, 4, 2, 4, 4, 4, 4],
        [4, 4, 4, 4, 3, 4, 4, 4, 4],
    ]


def test_layers_are_computed_only_where_a_key_depends_on_them() -> None:
    chosen = torch.zeros(1, 20, 20, dtype=torch.bool)
    chosen[0, 8:10, 8:10] = True
    keys = Cells.where(chosen)
    counts = {context: _computed(keys, context, [1] * 5) for context in (0, 2, 5)}
    assert counts == {0: [4] * 5, 2: [36, 36, 36, 16, 4], 5: [100, 64, 36, 16, 4]}
    assert _computed(keys, 2, [1, 1, 1, 0]) == [36, 16, 4, 4]


def _computed(keys: Cells, context: int, reaches: list[int]) -> list[int]:
    return [len(table) for table in layer_tables(with_context(keys, context), keys, reaches)]


def test_weights_changed_after_the_first_call_are_used() -> None:
    convolution = nn.Conv2d(WIDTH, WIDTH, 3, padding=1).double()
    features, active = _features(1, (5, 5)), Cells.where(torch.eye(5, dtype=torch.bool)[None])

    def answers() -> Tensor:
        kernel = Kernel.of(convolution)
        return on_cells(features, [Branch((kernel,), (kernel,))], active, active)[0]

    with torch.no_grad():
        before = answers()
        convolution.weight.data.zero_()
        assert torch.equal(answers(), convolution.bias.expand_as(before)) and not torch.equal(answers(), before)


def test_gradients_are_those_of_the_masked_dense_convolutions() -> None:
    branch, active = _branch(2, 2), _chosen(1, (6, 6), 0.4)
    gradients = []
    for dense_share in (1.0, 0.0):
        features = torch.ones(1, WIDTH, 6, 6).double().requires_grad_()
        on_cells(features, [branch], active, active, dense_share)[0].square().sum().backward()
        gradients.append(features.grad)
    torch.testing.assert_close(*gradients)


def test_branches_of_one_trunk_and_of_different_depth_go_together() -> None:
    trunk = _branch(2, 3)
    branches = [trunk, Branch(trunk.tower, (_kernel(2),)), _branch(1, 4)]
    features, active = _features(2, (6, 5)), _chosen(2, (6, 5), 0.4)
    _assert_same(on_cells(features, branches, active, active), masked_dense(features, branches, active, active))


def test_no_keys_no_answers() -> None:
    active = _chosen(1, (4, 4), 0.5)
    keys = Cells.where(torch.zeros(1, 4, 4, dtype=torch.bool))
    outputs = on_cells(_features(1, (4, 4)), [_branch(1, 4, 2)], active, keys)
    assert [tuple(rows.shape) for rows in outputs] == [(0, 4), (0, 2)]


def test_other_kernels_are_refused() -> None:
    for convolution in (nn.Conv2d(2, 2, 5), nn.Conv2d(2, 2, 3, bias=False)):
        with pytest.raises(ValueError, match="3x3 or 1x1"):
            Kernel.of(convolution)
