"""A solver of one's own is chosen by name from the configuration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from smidgen.assignment import register_solver, solver_called
from smidgen.boxes import solvers
from smidgen.models import create_criterion, create_model


def first_come(cost):
    """Rows in order take columns in order."""
    number = min(cost.shape)
    return np.arange(number), np.arange(number)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "SOLVERS", dict(solvers.SOLVERS))
    register_solver("first_come", first_come)


def test_scipy_is_the_default() -> None:
    assert solver_called("scipy") is linear_sum_assignment


def test_an_unknown_solver_is_refused_with_the_known_ones(registered: None) -> None:
    with pytest.raises(ValueError, match=r"out of first_come, scipy, got 'sciipy'; change model.loss.solver"):
        solver_called("sciipy")


def test_a_name_is_taken_once(registered: None) -> None:
    register_solver("first_come", first_come)
    with pytest.raises(ValueError, match=r"got 'scipy', which is taken"):
        register_solver("scipy", first_come)


@pytest.mark.parametrize("name", ["dino_nano", "paq_dino_nano"])
def test_the_configuration_chooses_the_solver_of_every_rule(name: str, registered: None) -> None:
    model = create_model(name, num_classes=2, loss={"solver": "first_come"})
    assert {rule.solver for rule in create_criterion(model).assignments.values()} == {first_come}
