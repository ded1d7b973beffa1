"""Perceptrons, and the box heads' precision."""

from __future__ import annotations

import pytest
import torch

from smidgen.nn.initialize import box_head
from smidgen.nn.mlp import MLP


def test_relu_stands_between_layers_and_not_after_the_last() -> None:
    mlp = MLP(1, 1, 1)
    for layer in mlp.layers:
        torch.nn.init.constant_(layer.weight, -1.0)
    assert mlp(torch.tensor([[2.0], [-2.0]])).flatten().tolist() == [0.0, -2.0]


def test_boxes_keep_float32_under_autocast() -> None:
    head, features = box_head(32), torch.randn(3, 32)
    torch.nn.init.normal_(head.layers[-1].weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(features.bfloat16())
        rounded = MLP(32, 4)(features)
    assert (found.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(found, head(features.bfloat16().float()), atol=0, rtol=0)


def test_a_single_width_is_no_perceptron() -> None:
    with pytest.raises(ValueError, match="input and an output width"):
        MLP(4)
