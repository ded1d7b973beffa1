"""Packed layers multiply as the layers they were made from."""

from __future__ import annotations

import logging
import pickle
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from smidgen.nn import packed_products
from smidgen.nn.packed_products import (
    PackedLinear,
    PackedPointwise,
    pack_products,
    packing_works,
)

needs_packing = pytest.mark.skipif(not packing_works(), reason="this torch has no packed products")


@needs_packing
@given(
    shape=st.lists(st.integers(0, 5), max_size=3),
    widths=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    bias=st.booleans(),
    turned=st.booleans(),
    seed=st.integers(0, 2**16),
)
@torch.inference_mode()
def test_a_packed_layer_multiplies_rows_of_any_shape(
    shape: list[int], widths: tuple[int, int], bias: bool, turned: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(*widths, bias=bias)
    rows = torch.randn(*shape, widths[0])
    rows = rows.transpose(0, -1).contiguous().transpose(0, -1) if turned else rows
    packed = PackedLinear(layer.weight, layer.bias)
    torch.testing.assert_close(packed(rows), layer(rows), atol=1e-5, rtol=1e-5)
    assert torch.equal(packed.dense_weight(), layer.weight)


@needs_packing
@torch.inference_mode()
def test_a_packed_convolution_answers_channels_last_whatever_it_reads() -> None:
    convolution = nn.Conv2d(24, 40, 1)
    packed = PackedPointwise(convolution)
    for batch in (1, 3):
        image = torch.randn(batch, 24, 7, 9)
        for layout in (torch.contiguous_format, torch.channels_last):
            found = packed(image.contiguous(memory_format=layout))
            torch.testing.assert_close(found, convolution(image), atol=1e-5, rtol=1e-5)
            assert found.is_contiguous(memory_format=torch.channels_last)
    assert packed.linear.bias is not None and convolution.bias is not None
    assert packed.linear.bias.data_ptr() == convolution.bias.data_ptr()


class Named(nn.Linear):
    """Another forward could do more than multiply."""


@needs_packing
def test_only_plain_layers_are_exchanged() -> None:
    network = nn.ModuleDict(
        {
            "linear": nn.Linear(4, 4),
            "named": Named(4, 4),
            "float64": nn.Linear(4, 4, dtype=torch.float64),
            "pointwise": nn.Conv2d(4, 4, 1),
            "strided": nn.Conv2d(4, 4, 1, stride=2),
            "padded": nn.Conv2d(4, 4, 1, padding=1),
            "grouped": nn.Conv2d(4, 4, 1, groups=2),
            "square": nn.Conv2d(4, 4, 3, padding=1),
        }
    ).eval()
    pack_products(network)
    packed = {name for name, part in network.items() if isinstance(part, PackedLinear | PackedPointwise)}
    assert packed == {"linear", "pointwise"}
    assert not any(part.training for part in network.modules())


@needs_packing
def test_copies_and_pickles_answer_the_same() -> None:
    packed, rows = PackedLinear(torch.randn(8, 6), torch.randn(8)), torch.randn(5, 6)
    for copy in (deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert torch.equal(copy(rows), packed(rows)) and not copy.training


@needs_packing
def test_weights_follow_to_other_formats_and_back() -> None:
    packed, rows = PackedLinear(torch.randn(8, 6), torch.randn(8)), torch.randn(5, 6)
    expected = packed(rows)
    torch.testing.assert_close(packed.to(torch.float64)(rows.double()), expected.double(), atol=1e-5, rtol=1e-5)
    assert torch.equal(packed.to(torch.float32)(rows), expected)
    assert packed.to("meta")(rows.to("meta")).shape == expected.shape


@needs_packing
def test_gradients_reach_what_was_multiplied() -> None:
    weight, rows = torch.randn(8, 6), torch.randn(5, 6, requires_grad=True)
    PackedLinear(weight, None)(rows).sum().backward()
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad, weight.sum(0).expand(5, 6))


@needs_packing
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_autocast_around_a_packed_layer_is_torchs(dtype: torch.dtype) -> None:
    layer, rows = nn.Linear(6, 8), torch.randn(5, 6)
    with torch.autocast("cpu", dtype=dtype):
        expected, found = layer(rows), PackedLinear(layer.weight, layer.bias)(rows)
    assert found.dtype == dtype and torch.equal(found, expected)


@needs_packing
def test_rows_in_another_format_are_refused_in_torchs_words() -> None:
    with pytest.raises(RuntimeError, match="same dtype"):
        PackedLinear(torch.randn(8, 6), None)(torch.randn(5, 6, dtype=torch.float64))


@needs_packing
def test_the_trial_is_not_disturbed_by_its_caller() -> None:
    for surroundings in (torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta")):
        packing_works.cache_clear()
        with surroundings:
            assert packing_works()


@needs_packing
def test_a_layer_that_stands_in_several_places_stays_one() -> None:
    shared = nn.Linear(4, 4)
    network = nn.ModuleList([shared, shared, nn.Sequential(shared)])
    pack_products(network)
    assert isinstance(network[0], PackedLinear) and network[0] is network[1] is network[2][0]


@needs_packing
def test_parameters_are_counted_as_before() -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2, bias=False))
    before = sum(parameter.numel() for parameter in network.parameters())
    pack_products(network)
    assert sum(parameter.numel() for parameter in network.parameters()) == before


@needs_packing
def test_products_are_counted() -> None:
    with FlopCounterMode(display=False) as packed:
        PackedLinear(torch.randn(8, 6), torch.randn(8))(torch.randn(2, 5, 6))
    with FlopCounterMode(display=False) as plain:
        F.linear(torch.randn(2, 5, 6), torch.randn(8, 6), torch.randn(8))
    assert packed.get_total_flops() == plain.get_total_flops() == 2 * 10 * 6 * 8


def test_without_the_operations_layers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(packed_products, "_product", missing)
    packing_works.cache_clear()
    try:
        network = nn.Sequential(nn.Linear(4, 4))
        pack_products(network)
        assert type(network[0]) is nn.Linear
    finally:
        packing_works.cache_clear()


def test_operations_that_err_are_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(packed_products, "_packed", lambda weight: weight)
    monkeypatch.setattr(packed_products, "_product", lambda features, packed, bias: F.linear(features, packed))
    packing_works.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert not packing_works()
        assert "packed ones differed by" in caplog.text
    finally:
        packing_works.cache_clear()
