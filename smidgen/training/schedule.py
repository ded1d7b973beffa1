"""The learning rate as a pure function of the step, so that a resumed run needs no schedule state."""

from __future__ import annotations

import math
from bisect import bisect_right

from torch.optim import Optimizer

from smidgen.training.config import TrainingConfig

# DINO (Zhang et al., 2022) trains 12 epochs and drops the rate after the 11th.
_DEFAULT_DROP = 11 / 12


def learning_rate_factor(step: int, config: TrainingConfig, steps_per_epoch: int, total_steps: int) -> float:
    """What the learning rates of `step` (the first is 0) are multiplied with: the schedule times the warm-up."""
    if config.schedule == "cosine":
        factor = _cosine(step / max(total_steps, 1), config.final_factor)
    else:
        factor = config.milestone_factor ** bisect_right(_drops(config, steps_per_epoch, total_steps), step)
    return factor * _warmup(step, config)


def set_learning_rates(optimizer: Optimizer, factor: float) -> None:
    """Give every group `factor` times its own `initial_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def _drops(config: TrainingConfig, steps_per_epoch: int, total_steps: int) -> list[int]:
    """The steps at which the rate falls."""
    if config.milestones is None:
        return [round(_DEFAULT_DROP * total_steps)]
    return [round(epoch * steps_per_epoch) for epoch in config.milestones]


def _cosine(progress: float, final: float) -> float:
    """Half a cosine from 1 to `final` (Loshchilov and Hutter, "SGDR", 2017, equation 5, without restarts)."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _warmup(step: int, config: TrainingConfig) -> float:
    if step >= config.warmup_steps:
        return 1.0
    return config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps
