"""Training: one readable loop on Accelerate, and the run folder that it fills."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smidgen.training.config import TrainingConfig

if TYPE_CHECKING:
    from smidgen.training.divergence import TrainingDiverged as TrainingDiverged
    from smidgen.training.interruption import Interrupted as Interrupted
    from smidgen.training.loop import TrainingResult as TrainingResult
    from smidgen.training.loop import train as train
    from smidgen.training.out_of_memory import OutOfMemory as OutOfMemory

# Public name -> module that defines it, imported on first use: the command line reads `TrainingConfig` without torch.
_PUBLIC: dict[str, str] = {
    "Interrupted": "smidgen.training.interruption",
    "OutOfMemory": "smidgen.training.out_of_memory",
    "TrainingDiverged": "smidgen.training.divergence",
    "TrainingResult": "smidgen.training.loop",
    "train": "smidgen.training.loop",
}

__all__ = ["TrainingConfig", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.training' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
