"""Everything that the training loop works with, set up once and handed to each of its parts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from smidgen.training.config import TrainingConfig
from smidgen.training.contracts import Detector, Evaluate, TrainingBatches
from smidgen.training.data_feed import WaitingTime
from smidgen.training.event_log import EventLog
from smidgen.training.interruption import StopRequest
from smidgen.training.progress import Display
from smidgen.training.run_folder import RunFolder


@dataclass(slots=True)
class Position:
    """Where the training stands; the only thing in it that is rewritten in place.

    epoch: the present one, counted from 0. batch: batches of it that are done. step: steps done. seconds: of training,
    over all parts of a resumed run. best: of the metric that chooses `best/`. stale: evaluations since then. metrics,
    evaluated: of the latest evaluation, and the step it came after.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    stale: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    evaluated: int = -1


@dataclass(slots=True)
class Clock:
    """Seconds of training, going on from earlier parts of the run. saved, drawn: when last/ and curves were made."""

    earlier: float
    started: float = field(default_factory=time.monotonic)
    saved: float = 0.0
    drawn: float = 0.0

    @property
    def seconds(self) -> float:
        """Since the run began, pauses between its parts left out."""
        return self.earlier + time.monotonic() - self.started


@dataclass(frozen=True, kw_only=True)
class Session:
    """model: as it was handed in; wrapped: the same as it is called in training. average: of the weights, if wanted.

    total_steps, steps_per_epoch: for the schedule and for `progress`; the training may end earlier. waiting: for
    batches, since the latest line of the metrics.
    """

    config: TrainingConfig
    accelerator: Accelerator
    model: nn.Module
    wrapped: nn.Module
    criterion: nn.Module
    optimizer: Optimizer
    average: AveragedModel | None
    batches: TrainingBatches
    evaluate: Evaluate | None
    position: Position
    run: RunFolder
    events: EventLog | None
    display: Display
    stop: StopRequest
    clock: Clock
    steps_per_epoch: int
    total_steps: int
    waiting: WaitingTime = field(default_factory=WaitingTime)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder and speaks."""
        return bool(self.accelerator.is_main_process)

    @property
    def deployed(self) -> nn.Module:
        """The weights that count: the average's where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def detector(self) -> Detector:
        """The model with its name, configuration and classes."""
        return cast("Detector", self.model)

    @property
    def progress(self) -> float:
        """Share of the steps done, in [0, 1]."""
        return min(self.position.step / self.total_steps, 1.0)

    def say(self, text: str) -> None:
        """Tell the person and the log (main process only)."""
        if self.is_main:
            self.display.say(text)
            self.run.append_log(text)

    def record(self, kind: str, values: Mapping[str, object]) -> None:
        """Add a line to metrics.jsonl, and to TensorBoard's events (main process only)."""
        if not self.is_main:
            return
        place = {"kind": kind, "step": self.position.step, "epoch": self.position.epoch + 1}
        self.run.append_metrics({**place, "seconds": round(self.clock.seconds, 3), **values})
        if self.events is not None:
            self.events.record(values, self.position.step)
