"""The picture of a sparse finest level counts what exists and what lies under it."""

from __future__ import annotations

import pytest
import torch
from observation_cases import SHAPES, observation, token_of

from smidgen.analysis.finest_level_pictures import finest_level_picture, why_no_finest_level
from smidgen.analysis.salience_pictures import salience_picture
from smidgen.structures import ActiveTokens
from smidgen.tokens.salience_filtering import SalienceMaps
from smidgen.tokens.sparse_finest_level import FinestLevel

CANVAS_HW = (64, 96)


def finest_level() -> FinestLevel:
    """Cell (1, 1) of stride 16 is asked for: tokens (2, 2), (2, 3), (3, 2) of stride 8, and one that is padding."""
    logits = torch.full((2, *SHAPES[1]), -20.0)
    logits[:, 1, 1] = 20.0
    chosen = ActiveTokens(
        torch.tensor([[token_of(0, 2, 2), token_of(0, 2, 3), token_of(0, 3, 2), token_of(0, 0, 0)]] * 2),
        torch.tensor([[False, False, False, True]] * 2),
    )
    nothing = torch.zeros(2, *SHAPES[1], dtype=torch.bool)
    return FinestLevel(logits, nothing, logits > 0, chosen, torch.tensor([3 / 96, 3 / 24]), CANVAS_HW)


def test_objects_with_a_token_under_their_center_are_counted() -> None:
    boxes = [[16.0, 16.0, 24.0, 24.0], [0.0, 0.0, 6.0, 6.0]]
    data = finest_level_picture(observation(boxes=boxes, evidence=(finest_level(),)), 0).data
    assert (data["tokens"], data["with_token_at_center"]) == (3, 1)
    assert (data["stride_of_map"], data["stride"]) == (16, 8)
    # One of the two cells that touch an object is asked for.
    assert data["mean_on_objects"] == pytest.approx(0.5) and data["mean_elsewhere"] == pytest.approx(0.0, abs=1e-6)


def test_an_image_without_objects_is_drawn() -> None:
    data = finest_level_picture(observation(evidence=(finest_level(),)), 1).data
    assert data["mean_on_objects"] is None and data["share"] == pytest.approx(3 / 24)


def test_a_model_without_it_says_so() -> None:
    assert why_no_finest_level(observation(evidence=(finest_level(),))) is None
    assert "sparse_finest" in str(why_no_finest_level(observation()))
    with pytest.raises(ValueError, match="sparse_finest"):
        finest_level_picture(observation(), 0)


def test_salience_of_the_coarser_levels_alone_is_drawn_with_their_strides() -> None:
    maps = SalienceMaps((torch.zeros(2, *SHAPES[1]),), (), CANVAS_HW)
    assert [level["stride"] for level in salience_picture(observation(evidence=(maps,)), 0).data["levels"]] == [16]
