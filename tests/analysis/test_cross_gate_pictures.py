"""Pictures of the gate between backbone and encoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from observation_cases import SIZES, STRIDES, flattened, observation, token_of

from smidgen.analysis import cross_gate_picture
from smidgen.analysis.cross_gate_pictures import why_no_cross_gate
from smidgen.analysis.observation import Observation
from smidgen.tokens.cross_coding import CrossGates


def seen(*, boxes: list[list[float]] | None = None) -> Observation:
    """Three channels; the coded map varies most in channel 1, where the gate is 0.9 in cell (1, 2) and else 0.5."""
    bare = observation()
    tokens = flattened(bare.images)
    flat = torch.zeros(*tokens.content.shape[:2], 3)
    gate, coded = flat + 0.5, flat.clone()
    gate[:, token_of(0, 1, 2), 1] = 0.9
    coded[:, :, 1] = torch.arange(flat.shape[1]) % 7.0
    coded[1, token_of(0, 7, 11), 2] = 1000.0  # in the padding of image 1
    gates = CrossGates(*(replace(tokens, content=content, position=flat) for content in (flat, flat + 1, gate, coded)))
    return observation(boxes=boxes or (), evidence=(gates,))


def test_the_channel_that_varies_most_is_shown_and_padding_has_no_say() -> None:
    for index in (0, 1):
        data = cross_gate_picture(seen(), index).data
        assert data["channel"] == 1 and data["stride"] == STRIDES[0]
        assert [row["shows"].split(",")[0].split()[0] for row in data["panels"]][:2] == ["backbone's", "encoder's"]
    assert cross_gate_picture(seen(), 0, channel=2).data["channel"] == 2


def test_the_gate_on_objects_is_told_from_the_gate_elsewhere() -> None:
    _, _, gate, mean, _ = cross_gate_picture(seen(boxes=[[17.0, 9.0, 23.0, 15.0]]), 0).data["panels"]
    assert gate["mean_on_objects"] == pytest.approx(0.9) and gate["mean_elsewhere"] == pytest.approx(0.5)
    assert mean["mean_on_objects"] == pytest.approx((0.9 + 0.5 + 0.5) / 3)
    without = cross_gate_picture(seen(), 0).data["panels"][2]
    assert without["mean_on_objects"] is None


def test_nothing_is_drawn_over_padding() -> None:
    figure = cross_gate_picture(seen(), 1).figure
    heat = figure.axes[2].images[1].get_array()
    assert heat is not None and (~torch.from_numpy(heat.filled(float("nan"))).isnan()).sum() == 4 * 6
    assert figure.axes[2].get_xlim() == (0, SIZES[1][1])


def test_the_mean_gate_of_every_level_stands_beside_it() -> None:
    fine, coarse = cross_gate_picture(seen(), 1).data["mean_gate_per_level"]
    assert coarse == pytest.approx(0.5) and fine == pytest.approx(0.5 + 0.4 / 3 / 24)


def test_a_model_without_such_a_gate_is_named() -> None:
    assert "gate" in (why_no_cross_gate(observation()) or "") and why_no_cross_gate(seen()) is None
    with pytest.raises(ValueError, match="CrossGates"):
        cross_gate_picture(observation(), 0)
