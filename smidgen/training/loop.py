"""Training from the first step to the last: the loop that everything else in this folder serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.training.config import TrainingConfig
from smidgen.training.contracts import Batch, Evaluate, TrainingBatches, TrainingImages
from smidgen.training.curves import draw_curves
from smidgen.training.data_feed import moved_ahead, moved_to
from smidgen.training.interruption import Interrupted
from smidgen.training.memory_forecast import used_gigabytes
from smidgen.training.preparation import TrainingRequest, open_session
from smidgen.training.progress import step_status
from smidgen.training.random_state import preserved_random_state
from smidgen.training.session import Session
from smidgen.training.state import save_best, save_last
from smidgen.training.step import StepReport, take_step

if TYPE_CHECKING:
    from smidgen.data import Augmentation

_PICTURED_STEPS = 2
_SECONDS_BETWEEN_CURVES = 30


@dataclass(frozen=True)
class TrainingResult:
    """run: the folder. best: the checkpoint to use. metrics: of the latest evaluation. seconds: of training, in all."""

    run: Path
    best: Path
    metrics: Mapping[str, float]
    seconds: float


def train(
    model: nn.Module,
    criterion: nn.Module,
    dataset: TrainingImages,
    config: TrainingConfig,
    out: Path | str,
    *,
    augmentation: Augmentation | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    device: str | None = None,
    experiment: Mapping[str, Any] | None = None,
    batches: TrainingBatches | None = None,
) -> TrainingResult:
    """Train a detector in place and fill the run folder `out`.

    criterion: `(output, targets, progress) -> weighted terms`. evaluate: `model -> metrics`, called in evaluation mode
    by the main process; None = never. resume: go on with the run in `out`. device: "cpu", "cuda", "cuda:1", "mps";
    None = a GPU where there is one. experiment: what `experiment.yaml` shall say. batches: a loader of one's own in
    place of `smidgen.data.training_loader(dataset, augmentation=...)`, which must keep to the same contract.

    Under torchrun every process calls this with the same arguments, and the images of a batch are shared out.

    Errors: ValueError for settings or data that do not fit together, Interrupted (saved) for SIGINT and SIGTERM,
    TrainingDiverged for losses that are not finite, OutOfMemory, OSError where nothing can be written.
    """
    request = TrainingRequest(
        model=model,
        criterion=criterion,
        dataset=dataset,
        config=config,
        out=Path(out),
        augmentation=augmentation,
        evaluate=evaluate,
        resume=resume,
        device=device,
        experiment=experiment,
        batches=batches,
    )
    with open_session(request) as session:
        _fit(session)
        return _result(session)


def _fit(session: Session) -> None:
    """Epoch after epoch until the epochs, the steps, the time or the hope of a better evaluation are used up."""
    position = session.position
    ended = _is_finished(session)
    while not ended:
        ended = _train_epoch(session)
        evaluated = _evaluate_where_due(session, ended)
        if position.batch >= len(session.batches):
            position.epoch, position.batch = position.epoch + 1, 0
        ended = ended or _has_stalled(session)
        if evaluated or ended:
            save_last(session)
        if ended or session.clock.seconds - session.clock.drawn > _SECONDS_BETWEEN_CURVES:
            _draw_curves(session)


def _is_finished(session: Session) -> bool:
    """Whether a resumed run was at its end already, its last evaluation included."""
    position = session.position
    unevaluated = session.evaluate is not None and position.evaluated != position.step
    return (_is_spent(session) and not unevaluated) or _has_stalled(session)


def _is_spent(session: Session) -> bool:
    """Whether the steps or, as the last save counted it, the time are used up."""
    minutes = session.config.max_minutes
    out_of_time = minutes is not None and session.position.seconds >= 60 * minutes
    return out_of_time or session.position.step >= session.total_steps


def _train_epoch(session: Session) -> bool:
    """Steps to the end of the epoch, or of what the run may use up; whether it is that."""
    if _is_spent(session):
        return True
    session.waiting.restart()
    for group in _groups(session):
        _draw_samples(session, group)
        report = take_step(session, group)
        _count(session, report, len(group))
        if report.stop_requested:
            _stop(session)
        if report.time_is_up or session.position.step >= session.total_steps:
            return True
        if report.save_is_due:
            save_last(session)
    session.position.batch = len(session.batches)
    return session.position.epoch + 1 >= session.config.epochs


def _groups(session: Session) -> Iterator[list[Batch]]:
    """The rest of the epoch, as many batches at a time as make a step."""
    session.batches.set_epoch(session.position.epoch)
    # A loader may draw a seed when it starts, and a resumed run starts it once more.
    with preserved_random_state():
        loaded = moved_ahead(session.batches.iterate(session.position.batch), session.accelerator.device)
        batches = session.waiting.timed(loaded)
        first = list(islice(batches, 1))
    rest = chain(first, batches)
    while group := list(islice(rest, session.config.accumulation)):
        yield group


def _count(session: Session, report: StepReport, batches: int) -> None:
    """Note that a step is done, on the display and, every so many steps, in the metrics."""
    position = session.position
    position.step, position.batch = position.step + 1, position.batch + batches
    memory = used_gigabytes(session.accelerator.device)
    session.display.advance(position.step, step_status(position.epoch + 1, report.loss, memory, session.waiting.share))
    if position.step % session.config.log_every == 0 or position.step in (1, session.total_steps):
        session.record("train", _training_line(session, report, memory))
        session.waiting.restart()


def _training_line(session: Session, report: StepReport, gigabytes: float) -> dict[str, object]:
    return {
        "loss": report.loss,
        "losses": dict(report.terms),
        "gradient_norm": report.gradient_norm,
        "learning_rates": {group["name"]: group["lr"] for group in session.optimizer.param_groups},
        "memory_gb": round(gigabytes, 3),
        "data_waiting_share": round(session.waiting.share, 4),
    }


def _stop(session: Session) -> NoReturn:
    """Save where the run stands and leave."""
    save_last(session)
    _draw_curves(session)
    interrupted = Interrupted(session.run.path, session.position.step)
    if session.is_main:
        session.run.append_log(str(interrupted))
    raise interrupted


def _evaluate_where_due(session: Session, ended: bool) -> bool:
    """Evaluate every so many epochs and at the end, and keep the best; whether it was due."""
    due = ended or (session.position.epoch + 1) % session.config.evaluate_every == 0
    if session.evaluate is None or not due:
        return False
    try:
        metrics = _measured(session, session.evaluate)
    except KeyboardInterrupt:
        _stop(session)
    _judge(session, metrics)
    return True


def _measured(session: Session, evaluate: Evaluate) -> dict[str, float]:
    """The metrics of the weights that count, measured by the main process and known to all."""
    answer: list[dict[str, float]] = [{}]
    alone = session.accelerator.num_processes == 1
    if session.is_main:
        with session.stop.honored_at_once() if alone else nullcontext(), preserved_random_state(), torch.no_grad():
            answer = [{name: float(value) for name, value in evaluate(session.deployed.eval()).items()}]
    broadcast_object_list(answer)
    return answer[0]


def _judge(session: Session, metrics: dict[str, float]) -> None:
    """Record an evaluation, and keep its weights where it is the best so far."""
    position, name = session.position, session.config.best_metric
    if name not in metrics:
        raise ValueError(f"expected training.best_metric to be one of {', '.join(metrics)}, got {name!r}")
    position.metrics, position.evaluated = metrics, position.step
    session.record("evaluation", {"metrics": metrics})
    session.say(f"epoch {position.epoch + 1}, step {position.step}: {name} {metrics[name]:.4f}")
    if position.best is None or metrics[name] > position.best:
        position.best, position.stale = metrics[name], 0
        save_best(session, metrics)
    else:
        position.stale += 1


def _has_stalled(session: Session) -> bool:
    """Whether so many evaluations brought nothing better that training ends early."""
    patience, stale = session.config.early_stopping, session.position.stale
    if not patience or stale < patience:
        return False
    session.say(f"no better {session.config.best_metric} in {stale} evaluations: training ends early")
    return True


def _draw_samples(session: Session, group: Sequence[Batch]) -> None:
    """Picture the run's first batches, so that broken labels and odd augmentation are seen at once."""
    if not session.is_main or session.position.step >= _PICTURED_STEPS:
        return
    from smidgen.data import draw_samples

    picture = session.run.samples / f"step_{session.position.step}.png"
    batch = moved_to(group[0], "cpu")
    write_atomically(picture, lambda partial: draw_samples(batch, session.detector.classes, partial))


def _draw_curves(session: Session) -> None:
    session.clock.drawn = session.clock.seconds
    if session.is_main:
        draw_curves(session.run.read_metrics(), session.run.curves)


def _result(session: Session) -> TrainingResult:
    run, position = session.run, session.position
    best = run.best if run.best.exists() else run.last
    return TrainingResult(run.path, best, dict(position.metrics), position.seconds)
