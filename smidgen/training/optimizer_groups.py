"""Which parameters learn slowly and which are not decayed, told by their names as the official recipes do.

The backbone and the linear layers that place deformable attention's samples take a tenth of the learning rate (Zhu et
al., "Deformable DETR", 2021, section 5; Zhang et al., "DINO", 2022); Salience DETR (Hou et al., 2024) also spares norms
and biases the decay.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from smidgen.training.config import TrainingConfig

_OFFSETS = ("sampling_offsets", "reference_points")
_UNDECAYED = ("norm", "bias")


def optimizer_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """AdamW's groups in a fixed order; each says its `name`, and `initial_lr` for the schedule.

    Frozen parameters are left out; a parameter with several names counts under its first.
    """
    members: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_speed(name), _decays(name, config)].append(parameter)
    if not members:
        raise ValueError("expected parameters to train, got a model whose parameters are all frozen")
    return [_group(speed, decays, members[speed, decays], config) for speed, decays in sorted(members)]


def describe_groups(groups: list[dict[str, Any]]) -> str:
    """One line per group: name, number of parameters, learning rate and decay."""
    lines = [
        f"  {group['name']}: {sum(parameter.numel() for parameter in group['params']):,} parameters, "
        f"learning rate {group['initial_lr']:g}, weight decay {group['weight_decay']:g}"
        for group in groups
    ]
    return "\n".join(["Optimizer groups:", *lines])


def _speed(name: str) -> str:
    if "backbone" in name:
        return "backbone"
    return "offsets" if any(word in name for word in _OFFSETS) else "other"


def _decays(name: str, config: TrainingConfig) -> bool:
    return config.decay_norms_and_biases or not any(word in name for word in _UNDECAYED)


def _group(speed: str, decays: bool, parameters: list[nn.Parameter], config: TrainingConfig) -> dict[str, Any]:
    multipliers = {"backbone": config.backbone_multiplier, "offsets": config.offsets_multiplier}
    rate = config.learning_rate * multipliers.get(speed, 1.0)
    return {
        "name": speed if decays else f"{speed}, not decayed",
        "params": parameters,
        "lr": rate,
        "initial_lr": rate,
        "weight_decay": config.weight_decay if decays else 0.0,
    }
