"""Who solves the assignment problems: scipy's solver, or one of the user's by name.

scipy's is a shortest augmenting path method (Crouse, "On implementing 2D rectangular assignment algorithms", 2016) and
lets other threads run, so that the problems of a step are solved side by side (boxes/host_matching.py). Another solver
is plugged in from a module of one's own, by `register_solver("mine", solve)`, and chosen by `model.loss.solver`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Solver: TypeAlias = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]
"""Costs, queries x objects, to the least costly min(queries, objects) pairs: rows in ascending order, and columns.

It may be called by several threads at once.
"""

SOLVERS: dict[str, Solver] = {"scipy": linear_sum_assignment}


def register_solver(name: str, solver: Solver) -> None:
    """Let `model.loss.solver` choose this solver by name. Raises ValueError where the name is taken."""
    if SOLVERS.get(name, solver) is not solver:
        raise ValueError(f"expected a solver name of its own, got {name!r}, which is taken")
    SOLVERS[name] = solver


def solver_called(name: str) -> Solver:
    """The solver of this name. Raises ValueError, with the known names, where there is none."""
    if name not in SOLVERS:
        raise ValueError(
            f"expected an assignment solver out of {', '.join(sorted(SOLVERS))}, got {name!r}; change "
            "model.loss.solver, or call smidgen.assignment.register_solver first (on the command line: --plugin MODULE)"
        )
    return SOLVERS[name]
