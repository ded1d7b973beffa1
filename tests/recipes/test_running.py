"""What an experiment's fields decide when it is carried out."""

from __future__ import annotations

from dataclasses import replace

import torch

from smidgen.recipes.experiment import default_experiment
from smidgen.recipes.running import build
from smidgen.structures import Classes


def _first_weight(seed: int) -> torch.Tensor:
    experiment = default_experiment("dino_nano")
    experiment = replace(
        experiment,
        model=replace(experiment.model, num_classes=2),
        training=replace(experiment.training, seed=seed),
    )
    torch.rand(3)  # whatever happened before
    return next(build(experiment, Classes.numbered(2)).parameters())


def test_initial_weights_follow_from_the_seed() -> None:
    assert torch.equal(_first_weight(1), _first_weight(1))
    assert not torch.equal(_first_weight(1), _first_weight(2))
