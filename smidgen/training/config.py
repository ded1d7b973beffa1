"""How long, how fast and with what care a model is trained: one frozen value, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

# Fields that may change between two parts of one run without changing what it computes.
SPEED_ONLY = frozenset(
    {
        "activation_checkpointing",
        "workers",
        "log_every",
        "checkpoint_every_seconds",
        "checkpoint_every_steps",
        "memory_forecast",
        "tensorboard",
    }
)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """AdamW as the DETR papers train (DINO: Zhang et al., 2022; 12 epochs, one drop of the rate after the 11th).

    A *batch* is what passes the network at once, over all processes; a *step* is one update of the weights, from
    `accumulation` batches; an *epoch* is one pass over the training images.

    Changes results:
        epochs: passes over the training images.
        batch_size: images per batch, over all processes together.
        accumulation: batches per step; gradients are their mean.
        learning_rate: of everything that the two multipliers leave alone.
        backbone_multiplier: times `learning_rate` for parameters whose name contains "backbone".
        offsets_multiplier: the same for "sampling_offsets" and "reference_points".
        weight_decay: AdamW's decoupled decay.
        decay_norms_and_biases: whether it also shrinks parameters named "norm" or "bias" (DINO and LSQ-DETR: yes;
            Salience DETR: no).
        clip_norm: largest global norm of the gradient; 0 = not clipped.
        schedule: "step" multiplies the rate by `milestone_factor` at each milestone, "cosine" falls to `final_factor`.
        milestones: in epochs, increasing; None = one, after 11/12 of all steps.
        milestone_factor: see `schedule`.
        final_factor: share of the learning rate at the end of "cosine".
        warmup_steps: steps over which the rate rises linearly from `warmup_factor` of itself; 0 = none.
        warmup_factor: share of the learning rate at the first step of the warm-up.
        ema_decay: of the exponential moving average of the weights; 0 = none. Where there is one, it is what is
            evaluated and saved.
        early_stopping: evaluations without a new best after which training ends; 0 = never.
        best_metric: name of the metric, the larger the better, that chooses `best/`.
        evaluate_every: epochs between evaluations; there is always one at the end.
        seed: of everything random, together with the process number.
        precision: "bf16" runs the network in bfloat16 where that is safe; weights and losses stay in float32.
        max_steps: end after so many steps; the schedule is fitted to them. None = no limit.
        max_minutes: end cleanly after so much training time, evaluations included, over all parts of a resumed run; the
            schedule does not know of it. None = no limit.

    Changes speed only:
        activation_checkpointing: compute activations again in the backward pass instead of keeping them.
        workers: processes that load images; 0 = the training process does. What is "waited for data" they can shorten.
        log_every: steps between lines of metrics.jsonl.
        checkpoint_every_seconds: at most so many seconds of work are lost in a crash; None = do not watch the clock.
        checkpoint_every_steps: save after so many steps, too; None = do not count.
        memory_forecast: estimate and print the memory before the first step.
        tensorboard: write events for TensorBoard into the run, too (extra "tensorboard").
    """

    # Changes results.
    epochs: int = 12
    batch_size: int = 2
    accumulation: int = 1
    learning_rate: float = 1e-4
    backbone_multiplier: float = 0.1
    offsets_multiplier: float = 0.1
    weight_decay: float = 1e-4
    decay_norms_and_biases: bool = True
    clip_norm: float = 0.1
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] | None = None
    milestone_factor: float = 0.1
    final_factor: float = 0.0
    warmup_steps: int = 0
    warmup_factor: float = 1e-3
    ema_decay: float = 0.0
    early_stopping: int = 0
    best_metric: str = "AP"
    evaluate_every: int = 1
    seed: int = 42
    precision: Literal["fp32", "bf16"] = "fp32"
    max_steps: int | None = None
    max_minutes: float | None = None

    # Changes speed only.
    activation_checkpointing: bool = False
    workers: int = 0
    log_every: int = 10
    checkpoint_every_seconds: float | None = 600.0
    checkpoint_every_steps: int | None = None
    memory_forecast: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_choices()
        self._check_milestones()

    def _check_numbers(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "evaluate_every", "log_every"):
            _expect(name, getattr(self, name), "at least 1", lambda value: value >= 1)
        for name in ("max_steps", "checkpoint_every_steps"):
            _expect(name, getattr(self, name), "at least 1, or none", lambda value: value is None or value >= 1)
        for name in ("max_minutes", "checkpoint_every_seconds"):
            _expect(name, getattr(self, name), "above 0, or none", lambda value: value is None or value > 0)
        _expect("learning_rate", self.learning_rate, "a finite number above 0", lambda value: 0 < value < math.inf)
        for name in ("backbone_multiplier", "offsets_multiplier", "weight_decay", "clip_norm"):
            _expect(name, getattr(self, name), "a finite number, at least 0", lambda value: 0 <= value < math.inf)
        for name in ("warmup_steps", "early_stopping", "workers"):
            _expect(name, getattr(self, name), "at least 0", lambda value: value >= 0)
        _expect("seed", self.seed, "from 0 to 2**63 - 1", lambda value: 0 <= value < 2**63)
        for name in ("milestone_factor", "final_factor", "warmup_factor"):
            _expect(name, getattr(self, name), "within [0, 1]", lambda value: 0 <= value <= 1)
        _expect("ema_decay", self.ema_decay, "within [0, 1)", lambda value: 0 <= value < 1)

    def _check_choices(self) -> None:
        _expect("schedule", self.schedule, "'step' or 'cosine'", lambda value: value in ("step", "cosine"))
        _expect("precision", self.precision, "'fp32' or 'bf16'", lambda value: value in ("fp32", "bf16"))
        _expect("best_metric", self.best_metric, "the name of a metric", bool)

    def _check_milestones(self) -> None:
        def increasing(value: tuple[float, ...] | None) -> bool:
            return value is None or (list(value) == sorted(set(value)) and all(epoch > 0 for epoch in value))

        _expect("milestones", self.milestones, "increasing epochs above 0, or none", increasing)


def _expect(name: str, value: Any, expected: str, holds: Any) -> None:
    if not holds(value):
        raise ValueError(f"expected training.{name} to be {expected}, got {value!r}; change --set training.{name}=...")
