"""Chunks change neither the sum nor its gradient, only what is kept for it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smidgen.nn.recomputed_sum import recomputed_sum


def _terms(values: Tensor, labels: Tensor) -> Tensor:
    return (values - labels[:, None]).square().exp()


def _found(values: Tensor, labels: Tensor, elements_at_once: int) -> tuple[Tensor, Tensor]:
    leaf = values.clone().requires_grad_()
    total = recomputed_sum(_terms, leaf, labels, elements_at_once)
    total.backward()
    assert leaf.grad is not None
    return total.detach(), leaf.grad


@given(st.integers(0, 20), st.integers(0, 4), st.integers(1, 40))
def test_sum_and_gradient_are_those_of_all_terms_at_once(count: int, width: int, elements_at_once: int) -> None:
    values, labels = torch.rand(count, width, dtype=torch.float64), torch.arange(count) % 2
    for ours, expected in zip(_found(values, labels, elements_at_once), _found(values, labels, 10**9), strict=True):
        torch.testing.assert_close(ours, expected)


def _kept_bytes(elements_at_once: int) -> int:
    """Of storages that autograd keeps beside values and labels."""
    values, labels, kept = torch.rand(4096, 4, requires_grad=True), torch.zeros(4096, dtype=torch.long), {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        total = recomputed_sum(_terms, values, labels, elements_at_once)
    for given_tensor in (values, labels):
        kept.pop(given_tensor.untyped_storage().data_ptr(), None)
    assert total.requires_grad
    return sum(kept.values())


def test_terms_are_not_kept() -> None:
    assert _kept_bytes(64) < 4096 < 4 * 4 * 4096 <= _kept_bytes(10**9)
