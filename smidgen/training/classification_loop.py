"""Training an image classifier on a folder of images, so that a detector's backbone has features to start from.

The loop has the manners of the detectors' one (`training/loop.py`): it stops when asked, saves, and goes on exactly
where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import save_image

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.structures import send
from smidgen.training.classification_config import (
    ClassificationAugmentation,
    ClassificationTraining,
    ClassifierSettings,
    learning_rate_at,
)
from smidgen.training.classification_session import (
    ClassificationRequest,
    ClassificationSession,
    open_classification,
    save_best,
    save_last,
)
from smidgen.training.curves import draw_curves
from smidgen.training.divergence import check_gradient, check_losses
from smidgen.training.image_folder import LabeledBatch
from smidgen.training.interruption import Interrupted
from smidgen.training.memory_forecast import used_gigabytes
from smidgen.training.processes import mean_over_processes
from smidgen.training.random_state import preserved_random_state

_SHOWN_IMAGES = 32
_TOP = 5


@dataclass(frozen=True)
class ClassificationResult:
    """run: the folder. best: the checkpoint to use. metrics: of the latest evaluation. seconds: of training, in all."""

    run: Path
    best: Path
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class _Step:
    """What a step was like, over all processes; stop, save: whether any of them has a reason to."""

    loss: float
    gradient_norm: float
    learning_rate: float
    stop: bool
    save: bool


def train_classifier(
    settings: ClassifierSettings,
    data: Path | str,
    out: Path | str,
    *,
    augmentation: ClassificationAugmentation | None = None,
    config: ClassificationTraining | None = None,
    resume: bool = False,
    device: str | None = None,
    experiment: Mapping[str, Any] | None = None,
) -> ClassificationResult:
    """Train on `data`/train, judge on `data`/val after every epoch, and fill the run folder `out`.

    Metrics are top1 and top5 (shares of the validation images whose class is the first, or among the first five) and
    loss (mean cross entropy); best/ has the highest top1. device: "cpu", "cuda", "cuda:1", "mps"; None = a GPU where
    there is one. experiment: what experiment.yaml shall say. Under torchrun every process calls this alike.

    Errors: ValueError for settings or data that do not fit together, Interrupted (saved) for SIGINT and SIGTERM,
    TrainingDiverged for a loss that is not finite, OSError where nothing can be written.
    """
    request = ClassificationRequest(
        settings=settings,
        data=Path(data),
        augmentation=augmentation or ClassificationAugmentation(),
        config=config or ClassificationTraining(),
        out=Path(out),
        resume=resume,
        device=device,
        experiment=experiment,
    )
    with open_classification(request) as session:
        while session.position.epoch < session.config.epochs:
            _train_epoch(session)
            _evaluate(session)
            session.position.epoch, session.position.batch = session.position.epoch + 1, 0
            save_last(session)
        _draw_curves(session)
        best = session.run.best if session.run.best.exists() else session.run.last
        return ClassificationResult(session.run.path, best, dict(session.position.metrics), session.position.seconds)


def _train_epoch(session: ClassificationSession) -> None:
    """The rest of the epoch."""
    position, count = session.position, len(session.batches)
    if position.batch >= count:  # stopped while it was judged
        return
    for batch in session.batches.epoch(position.epoch, position.batch):
        step = _take_step(session, batch)
        position.step, position.batch = position.step + 1, position.batch + 1
        _tell(session, step)
        if step.stop:
            _stop(session)
        if step.save and position.batch < count:
            save_last(session)


def _take_step(session: ClassificationSession, batch: LabeledBatch) -> _Step:
    """Forward, backward, clip, update, average. Errors: TrainingDiverged before anything is changed."""
    rate = learning_rate_at(session.position.step, session.config, len(session.batches))
    for group in session.optimizer.param_groups:
        group["lr"] = rate
    images, shares = _mixed(session, batch)
    session.wrapped.train()
    with session.autocast():
        logits = session.wrapped(images)
    loss = F.cross_entropy(logits.float(), shares, label_smoothing=session.config.label_smoothing)
    late = session.clock.seconds - session.clock.saved >= session.config.checkpoint_every_seconds
    mean, stop, save = mean_over_processes(session.accelerator, [loss, float(session.stop.requested), float(late)])
    check_losses(mean, {"cross_entropy": mean}, session.position.step)
    norm = _update(session, loss)
    return _Step(mean, norm, rate, stop > 0, save > 0)


def _mixed(session: ClassificationSession, batch: LabeledBatch) -> tuple[Tensor, Tensor]:
    """Images and class indices on the device, or after mixing, shares of classes in place of indices."""
    device = session.accelerator.device
    images, labels = send(batch.images, device), send(batch.labels, device)
    if session.mix is not None:
        images, labels = session.mix(images, labels)
    _draw_samples(session, images)
    return images, labels


def _update(session: ClassificationSession, loss: Tensor) -> float:
    """The gradient's norm before clipping. In fp16 the scaler leaves out steps whose gradient is not finite."""
    session.scaler.scale(loss).backward()
    session.scaler.unscale_(session.optimizer)
    limit = session.config.clip_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(session.network.parameters(), limit))
    try:
        if not session.scaler.is_enabled():
            check_gradient(norm, session.position.step)
        session.scaler.step(session.optimizer)
        session.scaler.update()
    finally:
        session.optimizer.zero_grad(set_to_none=True)
    if session.average is not None:
        session.average.update_parameters(session.network)
    return norm


def _tell(session: ClassificationSession, step: _Step) -> None:
    """Note that a step is done, on the display and, every so many steps, in the metrics."""
    position = session.position
    memory = used_gigabytes(session.accelerator.device)
    session.display.advance(position.step, f"epoch {position.epoch + 1}, loss {step.loss:.4g}, {memory:.2f} GB")
    if position.step % session.config.log_every and position.step != 1 and position.batch < len(session.batches):
        return
    line = {
        "loss": step.loss,
        "losses": {"cross_entropy": step.loss},
        "gradient_norm": step.gradient_norm,
        "learning_rates": {"all": step.learning_rate},
        "memory_gb": round(memory, 3),
    }
    session.record("train", line)


def _evaluate(session: ClassificationSession) -> None:
    """Judge the weights that count, and keep them where they are the best so far."""
    alone = session.accelerator.num_processes == 1
    try:
        with session.stop.honored_at_once() if alone else nullcontext(), preserved_random_state():
            metrics = _measured(session)
    except KeyboardInterrupt:
        _stop(session)
    position, config = session.position, session.config
    position.metrics, position.evaluated = metrics, position.step
    session.record("evaluation", {"metrics": metrics})
    figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    session.say(f"epoch {position.epoch + 1} of {config.epochs}, step {position.step}: {figures}")
    if position.best is None or metrics["top1"] > position.best:
        position.best = metrics["top1"]
        save_best(session, metrics)


@torch.no_grad()
def _measured(session: ClassificationSession) -> dict[str, float]:
    """Means over the validation images that can be read, over all processes."""
    network, device = session.deployed.eval(), session.accelerator.device
    sums = torch.zeros(4, dtype=torch.float64)
    for batch in session.validation:
        with session.autocast():
            logits = network(send(batch.images, device))
        sums += _sums(logits.float(), batch.labels.to(device)).cpu().double()
    first, among, loss, images = mean_over_processes(session.accelerator, list(sums))
    if not images:
        raise ValueError(f"none of the images in {session.validation.files.root} can be read")
    return {"top1": first / images, "top5": among / images, "loss": loss / images}


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Images right at the first guess, right among the first five, their cross entropy, and their number."""
    guesses = logits.topk(min(_TOP, logits.shape[1])).indices
    hits = guesses == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([hits[:, 0].sum().float(), hits.sum().float(), loss, loss.new_tensor(len(labels))])


def _stop(session: ClassificationSession) -> NoReturn:
    """Save where the run stands and leave."""
    save_last(session)
    _draw_curves(session)
    interrupted = Interrupted(session.run.path, session.position.step)
    if session.is_main:
        session.run.append_log(str(interrupted))
    raise interrupted


def _draw_samples(session: ClassificationSession, images: Tensor) -> None:
    """Picture the run's first batch as the network saw it, so that odd augmentation is seen at once."""
    if not session.is_main or session.position.step:
        return
    mean, std = (torch.tensor(values)[:, None, None] for values in (session.classifier.mean, session.classifier.std))
    pixels = (images[:_SHOWN_IMAGES].float().cpu() * std + mean).clamp(0, 1)
    picture = session.run.samples / "step_0.png"
    write_atomically(picture, lambda partial: save_image(pixels, partial, nrow=8, format="png"))


def _draw_curves(session: ClassificationSession) -> None:
    if session.is_main:
        draw_curves(session.run.read_metrics(), session.run.curves)
