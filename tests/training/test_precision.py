"""Nested outputs become float32, and only what is half precision is touched."""

from __future__ import annotations

import torch

from smidgen.structures import DetectorOutput, Predictions
from smidgen.training.precision import as_float32


def test_half_precision_becomes_float32_wherever_it_is() -> None:
    half, index = torch.ones(1, 2, 4, dtype=torch.bfloat16), torch.arange(2)
    output = DetectorOutput(Predictions(half, half), (Predictions(half, half),), token_index=index[None])
    converted = as_float32(output)
    assert converted.final.logits.dtype == converted.auxiliary[0].boxes_cxcywh.dtype == torch.float32
    assert converted.token_index is output.token_index
    nested = as_float32({"a": [half, (half.double(), "text")]})
    assert nested["a"][0].dtype == torch.float32
    assert nested["a"][1][0].dtype == torch.float64
    assert nested["a"][1][1] == "text"
