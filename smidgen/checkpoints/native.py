"""Our own checkpoint: a folder with the weights in `model.safetensors` and what rebuilds the model in `config.json`.

Reading never unpickles. Tensors that a model shares are stored once and shared again after reading.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.checkpoints.hub import fetch, is_repository
from smidgen.checkpoints.layout import CONFIG_FILE as CONFIG_FILE
from smidgen.checkpoints.layout import WEIGHTS_FILE as WEIGHTS_FILE
from smidgen.models import create_model
from smidgen.structures import Classes, ObjectSizes

# Inside a run folder, the checkpoint to use first.
_IN_RUN = ("best", "last", ".earlier-best", ".earlier-last")
_SHOWN = 5


def save(
    model: nn.Module, folder: Path | str, *, protocol: str | None = None, metrics: Mapping[str, float] | None = None
) -> Path:
    """Write a model made by `smidgen.create_model` to a folder; a file that is there is replaced by a complete one.

    protocol, metrics: how it was evaluated and what came out, kept for information.
    Errors: OSError (earlier files kept) where the folder cannot be written.
    """
    folder = Path(folder)
    text = json.dumps(_description(model, protocol, metrics), indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / WEIGHTS_FILE, lambda partial: save_model(model, str(partial)))
    write_atomically(folder / CONFIG_FILE, lambda partial: partial.write_text(text, encoding="utf-8"))
    return folder


def load(path: Path | str, device: torch.device | str = "cpu") -> nn.Module:
    """The model of a checkpoint folder, of a run folder (its best, else its last), or of a repository owner/name of the
    Hugging Face hub, in evaluation mode.

    Errors: ValueError that says what is wrong with the folder and what to do.
    """
    folder = checkpoint_folder(path)
    description = read_description(folder)
    model: Any = _rebuilt(description, folder)
    model.object_sizes = _object_sizes(description, folder)
    load_weights(model, folder)
    loaded: nn.Module = model.to(device).eval()
    return loaded


def load_weights(model: nn.Module, folder: Path) -> None:
    """Set every tensor of the model to the folder's. Errors: ValueError listing the tensors that do not fit."""
    tensors = read_weights(folder)
    state = model.state_dict()
    missing = [name for name in state if name not in tensors and not is_shared(name, state, tensors)]
    unexpected = [name for name in tensors if name not in state]
    mismatched = [
        f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(state[name].shape)} in the model"
        for name in state
        if name in tensors and tensors[name].shape != state[name].shape
    ]
    if missing or unexpected or mismatched:
        raise ValueError(_misfit(folder, missing, unexpected, mismatched))
    model.load_state_dict(tensors, strict=False)


def checkpoint_folder(path: Path | str) -> Path:
    """The folder with the two files: `path` itself, the folder of a file in it, the best or last of a run, or what is
    fetched where `path` is no path but a repository of the hub.
    """
    path = Path(path)
    if is_repository(path.as_posix()):
        return fetch(path.as_posix())
    start = path.parent if path.name in (WEIGHTS_FILE, CONFIG_FILE) else path
    for folder in (start, *(start / name for name in _IN_RUN)):
        if (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
            return folder
    found = ", ".join(sorted(item.name for item in start.iterdir())[:8]) or "nothing" if start.is_dir() else "no folder"
    raise ValueError(
        f"expected a checkpoint ({CONFIG_FILE} and {WEIGHTS_FILE}) or a run folder at {path}, found {found}; "
        f"{_hint(path, start)}"
    )


def _hint(path: Path, folder: Path) -> str:
    if path.suffix in (".pth", ".pt"):
        return "convert official releases with `smidgen convert`"
    if (folder / "bundle.json").is_file():  # of smidgen.export, which this folder does not know
        return "an exported file can predict, evaluate and serve; in Python smidgen.export.load_bundle opens it"
    return "check the path"


def read_description(folder: Path) -> dict[str, Any]:
    """What config.json says. Errors: ValueError where it is not ours."""
    try:
        description = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        complete = {"model", "config", "classes"} <= set(description)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} is damaged ({error}); use another copy of the checkpoint") from error
    if not complete:
        raise ValueError(
            f"expected model, config and classes in {folder / CONFIG_FILE}; this is not a Smidgen checkpoint"
        )
    return dict(description)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors by name. Errors: ValueError where the file is damaged."""
    try:
        return dict(load_file(str(folder / WEIGHTS_FILE)))
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS_FILE} is damaged ({error}); use another copy of the checkpoint") from error


def _description(model: nn.Module, protocol: str | None, metrics: Mapping[str, float] | None) -> dict[str, Any]:
    config, classes = asdict(model.config), model.classes  # type: ignore[call-overload]
    sizes: Any = getattr(model, "object_sizes", None)
    assert isinstance(classes, Classes)
    return {
        "model": model.name,
        "config": config,
        "classes": {"names": list(classes.names), "ids": list(classes.ids)},
        "preprocessing": config.get("preprocessing"),
        "object_sizes": None if sizes is None else asdict(sizes),
        "protocol": protocol,
        "metrics": None if metrics is None else dict(metrics),
        "versions": {"smidgen": version("smidgen"), "torch": torch.__version__},
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _rebuilt(description: Mapping[str, Any], folder: Path) -> nn.Module:
    """The model that config.json describes, with fresh weights."""
    settings = {name: value for name, value in description["config"].items() if name != "num_classes"}
    try:
        return create_model(description["model"], classes=classes_of(description), **settings)
    except ValueError as error:
        made_by = description.get("versions", {}).get("smidgen", "another version")
        raise ValueError(f"{folder / CONFIG_FILE} (written by smidgen {made_by}): {error}") from error


def classes_of(description: Mapping[str, Any]) -> Classes:
    """The classes that a checkpoint was trained on."""
    return Classes(tuple(description["classes"]["names"]), tuple(description["classes"]["ids"]))


def _object_sizes(description: Mapping[str, Any], folder: Path) -> ObjectSizes | None:
    """None where nobody knows: the model was converted, or written by an earlier version."""
    sizes = description.get("object_sizes")
    try:
        return None if sizes is None else ObjectSizes(**sizes)
    except TypeError as error:
        raise ValueError(
            f"{folder / CONFIG_FILE}: object_sizes: {error}; use another copy of the checkpoint"
        ) from error


def is_shared(name: str, state: Mapping[str, Tensor], tensors: Collection[str]) -> bool:
    """Whether another name of the same memory is in the file, which stores shared tensors once."""
    mine = state[name]
    return any(
        other.data_ptr() == mine.data_ptr() and other.shape == mine.shape and alias in tensors
        for alias, other in state.items()
        if alias != name and mine.numel()
    )


def _misfit(folder: Path, missing: Sequence[str], unexpected: Sequence[str], mismatched: Sequence[str]) -> str:
    findings = [
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
        if names
    ]
    return (
        f"the tensors of {folder / WEIGHTS_FILE} do not fit the model: {'; '.join(findings)}. Was {CONFIG_FILE} "
        "changed, or written by another version? To take over what fits, start a training from it with --init"
    )
