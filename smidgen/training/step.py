"""One step of the optimizer: forward, losses, backward over the accumulated batches, clip, update, average.

The host waits for the device twice: when the assignment needs its figures (boxes/host_matching.py), and once when all
is computed, for the numbers that decide whether the weights are changed and that are reported.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smidgen.structures import send
from smidgen.training.contracts import Batch
from smidgen.training.data_feed import moved_to
from smidgen.training.divergence import check_gradient, check_losses
from smidgen.training.precision import as_float32, autocast
from smidgen.training.processes import means_and_own
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
    try:
        terms = [_backward(session, batch, index, len(batches)) for index, batch in enumerate(batches)]
        report = _checked_report(session, terms, _clipped_norm(session))
        session.optimizer.step()
    finally:
        session.optimizer.zero_grad(set_to_none=True)
    if session.average is not None:
        session.average.update_parameters(session.model)
    return report


def _backward(session: Session, batch: Batch, index: int, count: int) -> dict[str, Tensor]:
    """Add one batch's share to the gradients; its terms."""
    # Gradients travel between processes once per step, with the last batch.
    later = session.accelerator.no_sync(session.wrapped) if index < count - 1 else contextlib.nullcontext()
    with later:
        terms = _losses(session, batch)
        session.accelerator.backward(torch.stack(list(terms.values())).sum() / count)
    return {name: term.detach() for name, term in terms.items()}


def _losses(session: Session, batch: Batch) -> dict[str, Tensor]:
    """The weighted terms, in float32 also where the network ran in bfloat16."""
    device = session.accelerator.device
    images, targets = moved_to(batch, device)
    with autocast(session.config.precision, device):
        output = session.wrapped(images, targets)
    terms: dict[str, Tensor] = session.criterion(as_float32(output), targets, session.progress)
    if not terms:
        raise ValueError("expected at least one loss term from the criterion, got none; check the weights of its terms")
    return terms


def _clipped_norm(session: Session) -> Tensor:
    """The gradient's norm before clipping."""
    limit = session.config.clip_norm or math.inf
    norm: Tensor = session.accelerator.clip_grad_norm_(session.model.parameters(), limit)
    return norm


def _checked_report(session: Session, terms: Sequence[Mapping[str, Tensor]], norm: Tensor) -> StepReport:
    """What is known of the step, by one exchange between processes and one copy from the device."""
    device = session.accelerator.device
    values = [torch.stack(list(each.values())) for each in terms]
    reasons = send(torch.tensor(_reasons(session)), device)
    shared = torch.cat([torch.stack([each.sum() for each in values]), reasons])
    own = torch.cat([*values, send(norm, device)[None]])
    means, numbers = means_and_own(session.accelerator, shared, own)
    losses, answers = means[: len(terms)], means[len(terms) :]
    reports = _named(terms, numbers)
    for loss, report in zip(losses, reports, strict=True):
        check_losses(loss, report, session.position.step)
    check_gradient(numbers[-1], session.position.step)
    loss = sum(losses) / len(losses)
    return StepReport(loss, _mean_terms(reports), numbers[-1], *(answer > 0 for answer in answers))


def _named(terms: Sequence[Mapping[str, Tensor]], numbers: Sequence[float]) -> list[dict[str, float]]:
    """The numbers, batch after batch, under the names of the batches' terms."""
    rest = iter(numbers)
    return [{name: next(rest) for name in each} for each in terms]


def _reasons(session: Session) -> list[float]:
    """This process's reasons to do something after the step, in the order of StepReport; above 0 = yes."""
    config, seconds = session.config, session.clock.seconds
    time_is_up = config.max_minutes is not None and seconds >= 60 * config.max_minutes
    limit = config.checkpoint_every_seconds
    late = limit is not None and seconds - session.clock.saved >= limit
    step, period = session.position.step + 1, config.checkpoint_every_steps
    counted = period is not None and step % period == 0
    return [float(session.stop.requested), float(time_is_up), float(late or counted)]


def _mean_terms(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each term over the batches that have it."""
    names = dict.fromkeys(name for report in reports for name in report)
    present = {name: [report[name] for report in reports if name in report] for name in names}
    return {name: sum(values) / len(values) for name, values in present.items()}
