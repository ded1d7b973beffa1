"""One step of the optimizer: forward, losses, backward over the accumulated batches, clip, update, average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smidgen.training.contracts import Batch
from smidgen.training.divergence import check_gradient, check_losses
from smidgen.training.precision import as_float32, autocast
from smidgen.training.processes import mean_over_processes
from smidgen.training.schedule import learning_rate_factor, set_learning_rates
from smidgen.training.session import Session


@dataclass(frozen=True)
class StepReport:
    """What a step was like.

    loss: mean over batches and processes. terms: of this process. gradient_norm: before clipping.
    stop_requested, time_is_up, save_is_due: whether any process was asked to stop, has used its minutes up, or has not
    saved for long; agreed on by all, since their clocks differ.
    """

    loss: float
    terms: Mapping[str, float]
    gradient_norm: float
    stop_requested: bool
    time_is_up: bool
    save_is_due: bool


def take_step(session: Session, batches: Sequence[Batch]) -> StepReport:
    """Update the weights from these batches. Errors: TrainingDiverged before anything is changed."""
    factor = learning_rate_factor(session.position.step, session.config, session.steps_per_epoch, session.total_steps)
    set_learning_rates(session.optimizer, factor)
    session.wrapped.train()
    losses = [_backward(session, batch, index, len(batches)) for index, batch in enumerate(batches)]
    norm = _update(session)
    loss, *reasons = (
        sum(values) / len(batches) for values in zip(*[exchanged for exchanged, _ in losses], strict=True)
    )
    return StepReport(loss, _mean_terms([terms for _, terms in losses]), norm, *(reason > 0 for reason in reasons))


def _backward(session: Session, batch: Batch, index: int, count: int) -> tuple[list[float], dict[str, float]]:
    """Add one batch's share to the gradients; its loss and reasons over processes, its terms here."""
    # Gradients travel between processes once per step, with the last batch.
    later = session.accelerator.no_sync(session.wrapped) if index < count - 1 else contextlib.nullcontext()
    with later:
        terms = _losses(session, batch)
        loss = torch.stack(list(terms.values())).sum()
        values = dict(zip(terms, torch.stack([term.detach() for term in terms.values()]).tolist(), strict=True))
        exchanged = mean_over_processes(session.accelerator, [loss, *_reasons(session)])
        check_losses(exchanged[0], values, session.position.step)
        session.accelerator.backward(loss / count)
    return exchanged, values


def _losses(session: Session, batch: Batch) -> dict[str, Tensor]:
    """The weighted terms, in float32 also where the network ran in bfloat16."""
    device = session.accelerator.device
    images, targets = batch[0].to(device, non_blocking=True), tuple(target.to(device) for target in batch[1])
    with autocast(session.config.precision, device):
        output = session.wrapped(images, targets)
    terms: dict[str, Tensor] = session.criterion(as_float32(output), targets, session.progress)
    if not terms:
        raise ValueError("expected at least one loss term from the criterion, got none; check the weights of its terms")
    return terms


def _reasons(session: Session) -> list[float]:
    """This process's reasons to do something after the step, in the order of StepReport; above 0 = yes."""
    config, seconds = session.config, session.clock.seconds
    time_is_up = config.max_minutes is not None and seconds >= 60 * config.max_minutes
    limit = config.checkpoint_every_seconds
    late = limit is not None and seconds - session.clock.saved >= limit
    step, period = session.position.step + 1, config.checkpoint_every_steps
    counted = period is not None and step % period == 0
    return [float(session.stop.requested), float(time_is_up), float(late or counted)]


def _update(session: Session) -> float:
    """Clip, update and average; the gradient's norm before clipping."""
    limit = session.config.clip_norm or math.inf
    norm = float(session.accelerator.clip_grad_norm_(session.model.parameters(), limit))
    try:
        check_gradient(norm, session.position.step)
        session.optimizer.step()
    finally:
        session.optimizer.zero_grad(set_to_none=True)
    if session.average is not None:
        session.average.update_parameters(session.model)
    return norm


def _mean_terms(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each term over the batches that have it."""
    names = dict.fromkeys(name for report in reports for name in report)
    present = {name: [report[name] for report in reports if name in report] for name in names}
    return {name: sum(values) / len(values) for name, values in present.items()}
