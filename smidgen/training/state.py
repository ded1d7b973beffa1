"""What must be known to go on exactly as if nothing had happened: weights, average, optimizer, place and randomness.

It lies as `training_state.pt` beside the checkpoint in last/, holds tensors, numbers and texts only, and is read with
`weights_only=True`. It is enough to go on by itself; the checkpoint beside it is for everybody else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from smidgen.checkpoints import native
from smidgen.checkpoints.atomic_write import write_atomically, write_folder_atomically
from smidgen.training.config import SPEED_ONLY, TrainingConfig
from smidgen.training.processes import gathered
from smidgen.training.random_state import capture_random_state, restore_random_state
from smidgen.training.session import Session

STATE_FILE = "training_state.pt"
_FORMAT = 1


def save_best(session: Session, metrics: Mapping[str, float]) -> None:
    """Put the weights that count into best/."""
    if session.is_main:
        write_folder_atomically(
            session.run.best, lambda folder: native.save(session.deployed, folder, metrics=dict(metrics))
        )


def save_last(session: Session) -> None:
    """Replace last/ by the present checkpoint and state. All processes must call this together."""
    session.position.seconds = session.clock.seconds
    session.clock.saved = session.clock.seconds
    random = gathered(session.accelerator, capture_random_state())
    if session.is_main:
        state = _state(session, random)
        write_folder_atomically(session.run.last, lambda folder: _write(session, state, folder))
    session.accelerator.wait_for_everyone()


def read_state(folder: Path) -> dict[str, Any]:
    """The state in last/. Errors: ValueError where it is damaged or of another version."""
    path = folder / STATE_FILE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"expected the training state of an interrupted run in {path}, could not read it ({error}); "
            "start a fresh run from the weights with --init"
        ) from error
    if state.get("format") != _FORMAT:
        raise ValueError(f"expected training state of format {_FORMAT} in {path}, got {state.get('format')}")
    return state


def restore(session: Session, state: Mapping[str, Any]) -> None:
    """Set everything but the session's position, which was read before, to the saved state."""
    check_resumable(state, session)
    session.model.load_state_dict(state["model"])
    session.criterion.load_state_dict(state["criterion"])
    _restore_optimizer(session.optimizer, state["optimizer"])
    if session.average is not None:
        if state["average"] is None:
            session.say("Warning: the run had no average of the weights so far; it starts from the present weights")
        else:
            session.average.load_state_dict(state["average"])
    restore_random_state(state["random"][session.accelerator.process_index])


def _restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Moments from the state; rates and decay as they are configured now, which loading would overwrite."""
    configured = [{name: group[name] for name in ("initial_lr", "weight_decay")} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, configured, strict=True):
        group.update(settings)


def check_resumable(state: Mapping[str, Any], session: Session) -> None:
    """Errors: ValueError where the saved place means nothing here. Changed settings are only warned of."""
    here = {"batches per epoch": len(session.batches), "processes": session.accelerator.num_processes}
    for name, value in here.items():
        if state[name] != value:
            raise ValueError(
                f"expected {state[name]} {name} as in the run so far, got {value}; resume with the same data, "
                "batch size and processes, or start a fresh run with --init"
            )
    for name, (before, now) in changed_settings(state["config"], session.config).items():
        session.say(
            f"Warning: training.{name} was {before!r} and is {now!r} from here on; the run is of mixed settings"
        )


def changed_settings(before: Mapping[str, Any], config: TrainingConfig) -> dict[str, tuple[Any, Any]]:
    """Fields that change results and differ: name -> (before, now)."""
    now = asdict(config)
    names = [field.name for field in fields(config) if field.name not in SPEED_ONLY and field.name in before]
    return {name: (before[name], now[name]) for name in names if before[name] != now[name]}


def _state(session: Session, random: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "config": asdict(session.config),
        "batches per epoch": len(session.batches),
        "processes": session.accelerator.num_processes,
        "position": asdict(session.position),
        "model": session.model.state_dict(),
        "criterion": session.criterion.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "average": None if session.average is None else session.average.state_dict(),
        "random": random,
    }


def _write(session: Session, state: Mapping[str, Any], folder: Path) -> None:
    native.save(session.deployed, folder, metrics=session.position.metrics or None)
    # Through memory: torch reports a full disk as an internal failure of its archive.
    content = io.BytesIO()
    torch.save(dict(state), content)
    write_atomically(folder / STATE_FILE, lambda partial: partial.write_bytes(content.getbuffer()))
