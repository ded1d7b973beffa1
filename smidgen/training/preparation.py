"""From what the caller hands in to a session that can train: checks, device, optimizer, run folder, resumed state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from accelerate import Accelerator
from torch import nn
from torch.optim import AdamW

from smidgen.structures import Classes
from smidgen.training.config import TrainingConfig
from smidgen.training.contracts import Detector, Evaluate, TrainingBatches, TrainingImages
from smidgen.training.ema import average_of
from smidgen.training.environment import describe_environment
from smidgen.training.event_log import EventLog
from smidgen.training.interruption import StopRequest
from smidgen.training.memory_forecast import forecast_memory
from smidgen.training.optimizer_groups import describe_groups, optimizer_groups
from smidgen.training.out_of_memory import memory_advice, out_of_memory_explained
from smidgen.training.processes import distributed, open_accelerator
from smidgen.training.progress import Display, open_display
from smidgen.training.query_budget import query_budget_warning
from smidgen.training.random_state import seed_everything
from smidgen.training.run_folder import RunFolder, open_run
from smidgen.training.session import Clock, Position, Session
from smidgen.training.state import read_state, restore

if TYPE_CHECKING:
    from smidgen.data import Augmentation


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """The arguments of `smidgen.training.train`, which says what they mean."""

    model: nn.Module
    criterion: nn.Module
    dataset: TrainingImages
    config: TrainingConfig
    out: Path
    augmentation: Augmentation | None
    evaluate: Evaluate | None
    resume: bool
    device: str | None
    experiment: Mapping[str, Any] | None
    batches: TrainingBatches | None


@contextlib.contextmanager
def open_session(request: TrainingRequest) -> Iterator[Session]:
    """A session at its first step, or where the resumed run stopped. Listens to signals until it is closed."""
    _check_classes(cast("Detector", request.model), request.dataset.classes)
    # A data set of one's own need not know. Before the average of the weights is made, which is a copy.
    cast("Detector", request.model).object_sizes = getattr(request.dataset, "object_sizes", None)
    _enable_activation_checkpointing(request)
    preprocessing = cast("Detector", request.model).config.preprocessing
    with open_accelerator(request.device) as accelerator, StopRequest() as stop:
        _check_batch_size(request.config, accelerator)
        run = _open_run(request, accelerator)
        state = read_state(run.last) if request.resume and run.last.exists() else None
        with _events(request, run, accelerator) as events, out_of_memory_explained(request.config, preprocessing):
            batches = request.batches or _training_batches(request, accelerator)
            position = Position(**state["position"]) if state else Position()
            total = _total_steps(request.config, len(batches))
            with open_display(total, position.step, accelerator.is_main_process) as display:
                session = _session(request, accelerator, batches, position, run, events, display, stop)
                _begin(session, request, state)
                yield session


def _session(
    request: TrainingRequest,
    accelerator: Accelerator,
    batches: TrainingBatches,
    position: Position,
    run: RunFolder,
    events: EventLog | None,
    display: Display,
    stop: StopRequest,
) -> Session:
    """Move the parts to the device and put them together."""
    config = request.config
    model, criterion = request.model.to(accelerator.device), request.criterion.to(accelerator.device)
    optimizer = AdamW(optimizer_groups(model, config))
    return Session(
        config=config,
        accelerator=accelerator,
        model=model,
        # Before the wrapper, which a copy must not take along.
        average=average_of(model, config.ema_decay) if config.ema_decay else None,
        wrapped=distributed(accelerator, model),
        criterion=criterion,
        optimizer=optimizer,
        batches=batches,
        evaluate=request.evaluate,
        position=position,
        run=run,
        events=events,
        display=display,
        stop=stop,
        clock=Clock(earlier=position.seconds, saved=position.seconds),
        steps_per_epoch=_steps_per_epoch(config, len(batches)),
        total_steps=_total_steps(config, len(batches)),
    )


def _begin(session: Session, request: TrainingRequest, state: Mapping[str, Any] | None) -> None:
    """Say what will be trained and whether it fits, then seed the run or set it to where it stopped."""
    seed_everything(session.config.seed + session.accelerator.process_index)
    if state is None:
        _write_settings(session, request)
    session.say(_introduction(session))
    session.say(describe_groups(session.optimizer.param_groups))
    _warn_of_query_budget(session, request.dataset)
    if session.config.memory_forecast:
        _forecast(session)
    if state is not None:
        restore(session, state)
        _write_settings(session, request)  # only now: a resumption that was refused leaves the run as it was
        session.say(f"resuming after step {session.position.step}")
    if request.resume and session.is_main:
        session.run.forget_after(session.position.step)


def _introduction(session: Session) -> str:
    config, accelerator = session.config, session.accelerator
    processes = "" if accelerator.num_processes == 1 else f" x {accelerator.num_processes} processes"
    size = config.batch_size * config.accumulation
    return (
        f"Training {session.detector.name} on {accelerator.device}{processes} in {config.precision}: {config.epochs} "
        f"epochs, at most {session.total_steps} steps of {size} images; run folder {session.run.path}"
    )


def _forecast(session: Session) -> None:
    config = session.config
    forecast = forecast_memory(
        session.model,
        images=config.batch_size // session.accelerator.num_processes,
        averaged=session.average is not None,
        precision=config.precision,
        device=session.accelerator.device,
    )
    session.say(str(forecast))
    if not forecast.fits:
        advice = memory_advice(config, session.detector.config.preprocessing)
        session.say(f"Warning: this may not fit. To need less: {advice}")


def _warn_of_query_budget(session: Session, dataset: TrainingImages) -> None:
    counts = [len(record.labels) for record in dataset.records]
    field, num_queries = _most_queries(session.detector.config)
    warning = query_budget_warning(counts, num_queries)
    if warning is not None:
        session.say(warning.replace("model.num_queries", field))


def _most_queries(config: Any) -> tuple[str, int | None]:
    """The field that limits how many objects can be found, and the limit: the largest budget of systems that count."""
    budgets = getattr(config, "budgets", None)
    if not hasattr(config, "num_queries") and budgets:
        return "model.budgets", max(budgets)
    return "model.num_queries", getattr(config, "num_queries", None)


def _check_classes(detector: Detector, classes: Classes) -> None:
    if detector.classes == classes:
        return
    raise ValueError(
        f"expected a model for the dataset's {len(classes)} classes {_shown(classes)}, got one for "
        f"{len(detector.classes)} classes {_shown(detector.classes)}; build it with create_model(..., "
        "classes=dataset.classes), and start from a checkpoint of other classes with --init"
    )


def _shown(classes: Classes) -> str:
    pairs = [f"{identity} {name}" for identity, name in zip(classes.ids, classes.names, strict=True)]
    return "(" + ", ".join(pairs[:8]) + (", ...)" if len(pairs) > 8 else ")")


def _check_batch_size(config: TrainingConfig, accelerator: Accelerator) -> None:
    if config.batch_size % accelerator.num_processes:
        raise ValueError(
            f"expected training.batch_size to be a multiple of the {accelerator.num_processes} processes that share "
            f"it, got {config.batch_size}"
        )


def _enable_activation_checkpointing(request: TrainingRequest) -> None:
    if not request.config.activation_checkpointing:
        return
    enable = getattr(request.model, "enable_activation_checkpointing", None)
    if enable is None:
        raise ValueError(
            f"{cast('Detector', request.model).name} cannot compute its activations again; "
            "leave training.activation_checkpointing out"
        )
    enable()


def _open_run(request: TrainingRequest, accelerator: Accelerator) -> RunFolder:
    """The run folder, made by the main process."""
    with accelerator.main_process_first():
        return open_run(request.out, request.resume)


def _write_settings(session: Session, request: TrainingRequest) -> None:
    """What was asked and what it runs on, beside the run."""
    if session.is_main:
        session.run.write_json("environment.json", describe_environment(session.accelerator))
        if request.experiment is not None:
            session.run.write_yaml("experiment.yaml", request.experiment)


@contextlib.contextmanager
def _events(request: TrainingRequest, run: RunFolder, accelerator: Accelerator) -> Iterator[EventLog | None]:
    if not (request.config.tensorboard and accelerator.is_main_process):
        yield None
        return
    events = EventLog(run.path / "tensorboard")
    try:
        yield events
    finally:
        events.close()


def _training_batches(request: TrainingRequest, accelerator: Accelerator) -> TrainingBatches:
    from smidgen.data import Augmentation, training_loader

    return training_loader(
        cast("Any", request.dataset),
        preprocessing=cast("Detector", request.model).config.preprocessing,
        augmentation=request.augmentation or Augmentation(),
        batch_size=request.config.batch_size // accelerator.num_processes,
        seed=request.config.seed,
        workers=request.config.workers,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        pin_memory=accelerator.device.type == "cuda",
    )


def _steps_per_epoch(config: TrainingConfig, batches: int) -> int:
    return -(-batches // config.accumulation)


def _total_steps(config: TrainingConfig, batches: int) -> int:
    if batches < 1:
        raise ValueError("expected at least one training batch per epoch, got none; check --data and --split")
    steps = config.epochs * _steps_per_epoch(config, batches)
    return steps if config.max_steps is None else min(steps, config.max_steps)
