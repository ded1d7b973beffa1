"""Runs as functions that return a frozen Experiment; each function's docstring gives command, result and hardware."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.recipes.experiment import DataConfig as DataConfig
    from smidgen.recipes.experiment import EvaluationConfig as EvaluationConfig
    from smidgen.recipes.experiment import Experiment as Experiment
    from smidgen.recipes.experiment import default_experiment as default_experiment
    from smidgen.recipes.experiment import read_experiment as read_experiment
    from smidgen.recipes.experiment import write_experiment as write_experiment
    from smidgen.recipes.running import run_experiment as run_experiment

# Public name -> module that defines it, imported on first use.
_PUBLIC = {
    "DataConfig": "smidgen.recipes.experiment",
    "EvaluationConfig": "smidgen.recipes.experiment",
    "Experiment": "smidgen.recipes.experiment",
    "default_experiment": "smidgen.recipes.experiment",
    "read_experiment": "smidgen.recipes.experiment",
    "run_experiment": "smidgen.recipes.running",
    "write_experiment": "smidgen.recipes.experiment",
}

__all__ = [*sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.recipes' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)
