"""Kept bytes are counted exactly where they can be, and measuring changes nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from stub_detector import StubConfig, StubDetector, stub_detector
from torch import nn

from smidgen.structures import DetectorOutput, ImageBatch, Preprocessing
from smidgen.training.memory_forecast import MemoryForecast, forecast_memory, kept_bytes, largest_canvas

CPU = torch.device("cpu")


class Sigmoids(nn.Module):
    """Keeps exactly two float32 maps of three channels (the outputs of both sigmoids), and its own weight twice."""

    def __init__(self, preprocessing: Preprocessing | None = None) -> None:
        super().__init__()
        self.config = StubConfig(preprocessing=preprocessing or Preprocessing(short_side=16, long_side=16))
        self.weight = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images: ImageBatch, targets: object = None) -> torch.Tensor:
        return (images.pixels.float().mul_(0) + self.weight).sigmoid().sigmoid()


def test_kept_bytes_are_counted_once_and_without_weights() -> None:
    assert kept_bytes(Sigmoids(), (10, 20), CPU) == 2 * 3 * 10 * 20 * 4


def test_small_measurements_foretell_large_canvases() -> None:
    model = Sigmoids(Preprocessing(short_side=800, long_side=1333, pad_multiple=32))
    forecast = forecast_memory(model, images=3, averaged=True, precision="fp32", device=CPU)
    assert forecast.canvas_hw == (800, 1344)
    assert forecast.activations == 3 * 2 * 3 * 800 * 1344 * 4
    assert (forecast.weights, forecast.gradients, forecast.optimizer, forecast.average) == (12, 12, 24, 12)


def test_measuring_changes_nothing() -> None:
    model = stub_detector(noise=1.0).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    forecast_memory(model, images=1, averaged=False, precision="fp32", device=CPU)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_forecast_reads_well() -> None:
    forecast = MemoryForecast(
        weights=10**9,
        gradients=10**9,
        optimizer=2 * 10**9,
        average=0,
        activations=4 * 10**9,
        images=2,
        canvas_hw=(800, 1333),
        available=7 * 10**9,
    )
    assert not forecast.fits
    assert replace(forecast, available=8 * 10**9).fits
    assert re.search(r"2 x 800 x 1333 px: weights 1.00 GB.*together about 8.00 GB of 7.00 GB", str(forecast))
    assert "average" not in str(forecast)


@pytest.mark.parametrize(("sides", "expected"), [((800, 1333, 1), (800, 1333)), ((320, 480, 32), (320, 480))])
def test_largest_canvas_is_padded(sides: tuple[int, int, int], expected: tuple[int, int]) -> None:
    preprocessing = Preprocessing(short_side=sides[0], long_side=sides[1], pad_multiple=sides[2])
    assert largest_canvas(preprocessing) == expected


def test_stub_follows_the_contract() -> None:
    """The loop's tests stand on it."""
    model = StubDetector(StubConfig())
    assert isinstance(model(ImageBatch.collate([torch.zeros(3, 16, 16, dtype=torch.uint8)])), DetectorOutput)
