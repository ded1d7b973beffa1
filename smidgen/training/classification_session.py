"""What the training of a classifier works with, and how it is put down in last/ and taken up again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel

from smidgen.checkpoints.atomic_write import write_atomically, write_folder_atomically
from smidgen.checkpoints.classification import Classifier, create_classifier, save_classifier
from smidgen.data.batch_order import BatchOrder
from smidgen.training.classification_config import (
    ClassificationAugmentation,
    ClassificationTraining,
    ClassifierSettings,
)
from smidgen.training.ema import average_of
from smidgen.training.environment import describe_environment
from smidgen.training.image_folder import (
    LabeledFiles,
    Mix,
    TrainingImageBatches,
    ValidationImageBatches,
    mixing,
    open_image_folder,
)
from smidgen.training.interruption import StopRequest
from smidgen.training.processes import distributed, gathered, open_accelerator
from smidgen.training.progress import Display, open_display
from smidgen.training.random_state import capture_random_state, restore_random_state, seed_everything
from smidgen.training.run_folder import RunFolder, open_run
from smidgen.training.session import Clock, Position
from smidgen.training.state import STATE_FILE, read_state

_FORMAT = 1
_UNCOMPARED = ("workers", "log_every", "checkpoint_every_seconds", "precision")


@dataclass(frozen=True, kw_only=True)
class ClassificationRequest:
    """The arguments of `train_classifier`, which says what they mean."""

    settings: ClassifierSettings
    data: Path
    augmentation: ClassificationAugmentation
    config: ClassificationTraining
    out: Path
    resume: bool
    device: str | None
    experiment: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ClassificationSession:
    """network: as it is kept; wrapped: the same as it is called in training. average: of the weights, if wanted.

    mix: turns a batch into a mixed one, if wanted. scaler: of the loss, at work in fp16 only.
    """

    config: ClassificationTraining
    classifier: Classifier
    accelerator: Accelerator
    precision: Literal["fp32", "bf16", "fp16"]
    network: nn.Module
    wrapped: nn.Module
    average: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    batches: TrainingImageBatches
    validation: ValidationImageBatches
    mix: Mix | None
    position: Position
    run: RunFolder
    display: Display
    stop: StopRequest
    clock: Clock

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder and speaks."""
        return bool(self.accelerator.is_main_process)

    @property
    def deployed(self) -> nn.Module:
        """The weights that count: the average's where there is one."""
        return self.network if self.average is None else self.average.module

    def say(self, text: str) -> None:
        """Tell the person and the log (main process only)."""
        if self.is_main:
            self.display.say(text)
            self.run.append_log(text)

    def record(self, kind: str, values: Mapping[str, object]) -> None:
        """Add a line to metrics.jsonl (main process only)."""
        if self.is_main:
            place = {"kind": kind, "step": self.position.step, "epoch": self.position.epoch + 1}
            self.run.append_metrics({**place, "seconds": round(self.clock.seconds, 3), **values})

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.accelerator.device.type, dtype=dtype)


@contextlib.contextmanager
def open_classification(request: ClassificationRequest) -> Iterator[ClassificationSession]:
    """A session at its first step, or where the resumed run stopped. Listens to signals until it is closed."""
    training, validation = open_image_folder(request.data)
    with open_accelerator(request.device) as accelerator, StopRequest() as stop:
        run = _open_run(request, accelerator)
        state = read_state(run.last) if request.resume and run.last.exists() else None
        position = Position(**state["position"]) if state else Position()
        order = _order(request.config, training, accelerator)
        steps = request.config.epochs * len(order)
        with open_display(steps, position.step, accelerator.is_main_process) as display:
            session = _session(request, accelerator, training, validation, order, position, run, display, stop)
            _begin(session, request, state)
            yield session


def save_best(session: ClassificationSession, metrics: Mapping[str, float]) -> None:
    """Put the weights that count into best/."""
    if session.is_main:
        write_folder_atomically(
            session.run.best, lambda folder: save_classifier(session.deployed, session.classifier, folder, metrics)
        )


def save_last(session: ClassificationSession) -> None:
    """Replace last/ by the present checkpoint and state. All processes must call this together."""
    session.position.seconds = session.clock.saved = session.clock.seconds
    random = gathered(session.accelerator, capture_random_state())
    if session.is_main:
        state = _state(session, random)
        write_folder_atomically(session.run.last, lambda folder: _write(session, state, folder))
    session.accelerator.wait_for_everyone()


def decay_groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: parameters along two or more dimensions, and all others with those that the network itself names
    in `no_weight_decay`, which are not decayed.
    """
    named = getattr(network, "no_weight_decay", None)
    spared = set(named()) if named else set()
    members: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            # Scales are sometimes kept as 1 x 1 x 1 x channels.
            flat = parameter.squeeze().ndim <= 1 or name.endswith(".bias") or name in spared
            members[not flat].append(parameter)
    groups = [("decayed", decay, members[True]), ("not decayed", 0.0, members[False])]
    return [{"name": name, "params": chosen, "weight_decay": share} for name, share, chosen in groups if chosen]


def _session(
    request: ClassificationRequest,
    accelerator: Accelerator,
    training: LabeledFiles,
    validation: LabeledFiles,
    order: BatchOrder,
    position: Position,
    run: RunFolder,
    display: Display,
    stop: StopRequest,
) -> ClassificationSession:
    """Build the network, move it to the device and put the parts together."""
    config, augmentation = request.config, request.augmentation
    seed_everything(config.seed)  # the same weights in every process
    classifier = _classifier(request.settings, augmentation, training.class_names)
    network = create_classifier(classifier).to(accelerator.device)
    precision = chosen_precision(config, accelerator.device)

    def report(text: str) -> None:
        """Every process meets broken files of its own; the main one also shows them, the log has all."""
        display.say(text)
        run.append_log(text)

    return ClassificationSession(
        config=config,
        classifier=classifier,
        accelerator=accelerator,
        precision=precision,
        network=network,
        # Before the wrapper, which a copy must not take along.
        average=average_of(network, config.ema_decay) if config.ema_decay else None,
        wrapped=distributed(accelerator, network),
        optimizer=AdamW(decay_groups(network, config.weight_decay), lr=config.learning_rate),
        scaler=torch.amp.GradScaler(accelerator.device.type, enabled=precision == "fp16"),
        batches=TrainingImageBatches(training, augmentation, order, config.workers, report),
        validation=ValidationImageBatches(
            validation,
            augmentation,
            range(accelerator.process_index, len(validation), accelerator.num_processes),
            order.batch_size,
            config.workers,
            report,
        ),
        mix=mixing(augmentation, len(training.class_names)),
        position=position,
        run=run,
        display=display,
        stop=stop,
        clock=Clock(earlier=position.seconds, saved=position.seconds),
    )


def chosen_precision(config: ClassificationTraining, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """What "auto" means on this device. Errors: ValueError for fp16 without a GPU."""
    if config.precision == "fp16" and device.type != "cuda":
        raise ValueError(f"expected training.precision fp32 or bf16 on {device.type}, got fp16, which needs a GPU")
    if config.precision != "auto":
        return config.precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _classifier(
    settings: ClassifierSettings, augmentation: ClassificationAugmentation, names: tuple[str, ...]
) -> Classifier:
    return Classifier(
        architecture=settings.architecture,
        options=settings.options,
        norm=settings.norm,
        class_names=names,
        image_size=augmentation.image_size,
        mean=augmentation.mean,
        std=augmentation.std,
    )


def _order(config: ClassificationTraining, files: LabeledFiles, accelerator: Accelerator) -> BatchOrder:
    processes = accelerator.num_processes
    if config.batch_size % processes:
        raise ValueError(
            f"expected training.batch_size to be a multiple of the {processes} processes that share it, "
            f"got {config.batch_size}"
        )
    return BatchOrder(
        len(files),
        config.batch_size // processes,
        config.seed,
        rank=accelerator.process_index,
        world_size=processes,
    )


def _open_run(request: ClassificationRequest, accelerator: Accelerator) -> RunFolder:
    """The run folder, made by the main process."""
    with accelerator.main_process_first():
        return open_run(request.out, request.resume)


def _begin(session: ClassificationSession, request: ClassificationRequest, state: Mapping[str, Any] | None) -> None:
    """Say what will be trained, then seed the run or set it to where it stopped.

    What was asked is written only when it was found possible: a run refused to resume must be able to resume as it was.
    """
    seed_everything(session.config.seed + session.accelerator.process_index)
    session.say(_introduction(session))
    if state is not None:
        _restore(session, state)
        session.say(f"resuming after step {session.position.step}")
    if not session.is_main:
        return
    session.run.write_json("environment.json", describe_environment(session.accelerator))
    if request.experiment is not None:
        session.run.write_yaml("experiment.yaml", request.experiment)
    if request.resume:
        session.run.forget_after(session.position.step)


def _introduction(session: ClassificationSession) -> str:
    config, files = session.config, session.batches.files
    million = sum(parameter.numel() for parameter in session.network.parameters()) / 1e6
    scale = config.batch_size / 512
    return (
        f"Training {session.classifier.architecture} ({million:.2f} M parameters) on {session.accelerator.device} in "
        f"{session.precision}: {len(files)} images of {len(files.class_names)} classes, "
        f"{len(session.validation.files)} for validation; {config.epochs} epochs of {len(session.batches)} steps of "
        f"{config.batch_size} images; learning rate {config.learning_rate:g} x {config.batch_size} / 512 = "
        f"{config.learning_rate * scale:g}; run folder {session.run.path}"
    )


def _restore(session: ClassificationSession, state: Mapping[str, Any]) -> None:
    """Set everything but the position, which was read before, to the saved state."""
    _check_resumable(session, state)
    session.network.load_state_dict(state["model"])
    decays = [group["weight_decay"] for group in session.optimizer.param_groups]
    session.optimizer.load_state_dict(state["optimizer"])
    for group, decay in zip(session.optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay
    if state["scaler"]:  # empty where the run was not in fp16 so far: the scale then begins as in a new run
        session.scaler.load_state_dict(state["scaler"])
    if session.average is not None and state["average"] is not None:
        session.average.load_state_dict(state["average"])
    restore_random_state(state["random"][session.accelerator.process_index])


def _check_resumable(session: ClassificationSession, state: Mapping[str, Any]) -> None:
    """Errors: ValueError where the saved place means nothing here. Changed settings are only warned of."""
    for name, value in _place(session).items():
        if state.get(name, value) != value:
            raise ValueError(
                f"expected {name} as in the run so far ({state.get(name)}), got {value}; resume with the same network, "
                "data, batch size and processes, or start another run"
            )
    for group, settings in _settings(session).items():
        earlier = state.get(group, {})
        for name, value in settings.items():
            before = earlier.get(name, value)
            if before != value and name not in _UNCOMPARED:
                session.say(f"Warning: {group}.{name} was {before!r} and is {value!r} from here on")


def _place(session: ClassificationSession) -> dict[str, Any]:
    """What gives the position its meaning."""
    return {
        "architecture": session.classifier.architecture,
        "norm": session.classifier.norm,
        "options": dict(session.classifier.options),
        "classes": list(session.classifier.class_names),
        "training images": len(session.batches.files),
        "batches per epoch": len(session.batches),
        "processes": session.accelerator.num_processes,
    }


def _settings(session: ClassificationSession) -> dict[str, dict[str, Any]]:
    """What may change from one part of a run to the next."""
    return {"training": asdict(session.config), "augmentation": asdict(session.batches.augmentation)}


def _state(session: ClassificationSession, random: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        **_place(session),
        **_settings(session),
        "position": asdict(session.position),
        "model": session.network.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "scaler": session.scaler.state_dict(),
        "average": None if session.average is None else session.average.state_dict(),
        "random": random,
    }


def _write(session: ClassificationSession, state: Mapping[str, Any], folder: Path) -> None:
    save_classifier(session.deployed, session.classifier, folder, session.position.metrics or None)
    # Through memory: torch reports a full disk as an internal failure of its archive.
    content = io.BytesIO()
    torch.save(dict(state), content)
    write_atomically(folder / STATE_FILE, lambda partial: partial.write_bytes(content.getbuffer()))
