"""Training settings for small networks that start without pretrained weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smidgen.training import TrainingConfig


def from_scratch(**changes: Any) -> TrainingConfig:
    """One learning rate for the whole network (its backbone knows nothing yet), cosine decay, averaged weights.

    changes: fields that shall differ, for example epochs=12.
    """
    settings = TrainingConfig(
        epochs=24,
        batch_size=4,
        learning_rate=4e-4,
        backbone_multiplier=1.0,
        offsets_multiplier=0.5,
        schedule="cosine",
        final_factor=0.02,
        warmup_steps=100,
        ema_decay=0.998,
        decay_norms_and_biases=False,
    )
    return replace(settings, **changes)


def default_training(system: str) -> TrainingConfig:
    """The papers' settings, except for nano sizes, which have no pretrained weights."""
    return from_scratch() if system.endswith("_nano") else TrainingConfig()
