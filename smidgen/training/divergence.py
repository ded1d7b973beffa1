"""Training that has left the numbers is stopped before it can spoil the weights, the average or a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping


class TrainingDiverged(RuntimeError):  # noqa: N818  the name says what happened
    """A loss or a gradient is not a number any more. Checkpoints already saved are good."""


def check_losses(loss: float, terms: Mapping[str, float], step: int) -> None:
    """Raise TrainingDiverged, naming the terms that are not finite, unless the loss is.

    loss: mean over processes; terms: of this process. Every process sees the same loss and so stops with the others.
    """
    if math.isfinite(loss):
        return
    broken = [f"{name} = {value}" for name, value in terms.items() if not math.isfinite(value)]
    where = ", ".join(broken) if broken else "a term of another process"
    raise TrainingDiverged(f"the loss is {loss} at step {step} ({where}). {_ADVICE}")


def check_gradient(norm: float, step: int) -> None:
    """Raise TrainingDiverged unless the gradient's norm is finite."""
    if not math.isfinite(norm):
        raise TrainingDiverged(f"the gradient's norm is {norm} at step {step}, though the loss is finite. {_ADVICE}")


_ADVICE = (
    "Nothing was saved over the earlier checkpoints. Lower training.learning_rate, add training.warmup_steps, keep "
    "training.clip_norm, or use precision fp32; `smidgen check` finds boxes that are not numbers"
)
