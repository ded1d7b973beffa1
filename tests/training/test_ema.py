"""The average follows its equation, and copies what cannot be averaged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from smidgen.training.ema import average_of, warmed_decay


def test_decay_warms_up() -> None:
    assert warmed_decay(0.999, 0) == pytest.approx(0.1)
    assert warmed_decay(0.999, 90) == pytest.approx(0.91)
    assert warmed_decay(0.5, 90) == 0.5


def test_average_follows_its_equation() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = average_of(model, decay=0.15)
    expected = None
    for update, weight in enumerate((3.0, 5.0, 9.0, -1.0)):
        nn.init.constant_(model.weight, weight)
        average.update_parameters(model)
        decay = min(0.15, (1 + update) / (10 + update))
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
    assert average.module.weight.item() == pytest.approx(expected)


def test_buffers_are_copied_and_nothing_is_trained() -> None:
    model = nn.BatchNorm1d(2)
    average = average_of(model, decay=0.9)
    model(torch.randn(8, 2))
    average.update_parameters(model)
    model(torch.randn(8, 2))
    average.update_parameters(model)
    assert torch.equal(average.module.running_mean, model.running_mean)
    assert average.module.num_batches_tracked == 2
    assert not any(parameter.requires_grad for parameter in average.parameters())
