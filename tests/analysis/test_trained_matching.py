"""Pictures pair queries and objects as the training of the model did."""

from __future__ import annotations

from dataclasses import replace

import torch
from observation_cases import observation, token_of
from torch import nn

from smidgen.analysis import count_origins, query_start_picture
from smidgen.analysis.trained_matching import trained_matching
from smidgen.assignment import HungarianAssignment
from smidgen.models import create_model
from smidgen.structures import Matches

SIZES = {"transformer": {"width": 32, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1}, "num_queries": 4}


def test_a_models_own_weights_of_the_costs_decide() -> None:
    model = create_model("dino_nano", num_classes=2, loss={"cost_giou": 7.0, "cost_l1": 0.5}, **SIZES)
    matching = trained_matching(model)
    assert isinstance(matching, HungarianAssignment)
    assert (matching.giou, matching.l1) == (7.0, 0.5)


def test_a_model_without_criterion_is_matched_as_usual() -> None:
    stranger = nn.Linear(1, 1)
    stranger.name = "no such system"  # type: ignore[assignment]
    for model in (nn.Linear(1, 1), stranger):
        assert isinstance(trained_matching(model), HungarianAssignment)


def test_origins_follow_the_observations_matching() -> None:
    def last_query(predictions: object, targets: object) -> Matches:
        return Matches(torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))

    tiny = [8.0, 8.0, 12.0, 12.0]
    seen = observation(
        boxes=[tiny],
        query_tokens=[token_of(0, 1, 1), token_of(1, 1, 1)],
        query_boxes=[tiny, [0.0, 0.0, 64.0, 60.0]],
    )
    assert count_origins(seen).matched.sum(axis=0).tolist() == [1, 0]
    other = replace(seen, assignment=last_query)
    assert count_origins(other).matched.sum(axis=0).tolist() == [0, 1]
    assert [row["matched"] for row in query_start_picture(other, 0).data["levels"]] == [0, 1]
