"""Training settings for small networks that start without pretrained weights."""

from __future__ import annotations

from smidgen.training import TrainingConfig


def from_scratch() -> TrainingConfig:
    """One learning rate for the whole network (its backbone knows nothing yet), cosine decay, averaged weights."""
    return TrainingConfig(
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


def default_training(system: str) -> TrainingConfig:
    """The papers' settings, except for nano sizes, which have no pretrained weights."""
    return from_scratch() if system.endswith("_nano") else TrainingConfig()
