"""The tensors of an official checkpoint, read without executing anything that is in it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# Under which of these a training's checkpoint keeps the weights; the first that is there counts.
_ENTRIES = ("model", "ema", "ema_model", "state_dict", "module")
# What parallel training or compilation puts in front of every name.
_WRAPPERS = ("module.", "_orig_mod.")
# How the files of `torch.save` begin: a zip archive, or a pickle (before torch 1.6).
_BEGINNINGS = (b"PK\x03\x04", b"\x80")


def read_official(file: Path) -> dict[str, Tensor]:
    """Name -> tensor of a .safetensors file, or of what `torch.save` wrote (.pth, .pt, .bin).

    Errors: ValueError where the file is damaged, holds more than data, or no tensors.
    """
    content: Any = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    tensors = _unwrapped(content)
    if not tensors:
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"expected tensors by name in {file}, or under one of {', '.join(_ENTRIES)}; got {found}")
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(str(file)))
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}); download it again") from error


def _read_pickle(file: Path) -> Any:
    with file.open("rb") as stream:
        if not stream.read(4).startswith(_BEGINNINGS):  # torch would call a picture dangerous
            raise ValueError(f"{file} is damaged or no checkpoint of torch (it begins otherwise); download it again")
    try:
        # The official trainings store their command line beside the weights; a namespace is nothing but named values.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(_refusal(file, error)) from error
    except (RuntimeError, EOFError, KeyError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"{file} is damaged or no checkpoint of torch ({first}); download it again") from error


def _refusal(file: Path, error: UnpicklingError) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), str(error).partition("\n")[0])
    return (
        f"expected only tensors and plain values in {file}, but reading it would run code ({reason}). If you trust its "
        "origin, store the weights alone: import torch; "
        f'torch.save(torch.load("{file.name}", weights_only=False)["model"], "weights.pth")'
    )


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of the outermost mapping that has any; none where there is no such mapping."""
    while isinstance(content, Mapping):
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        entries = [entry for entry in _ENTRIES if isinstance(content.get(entry), Mapping)]
        if not entries:
            return tensors
        content = content[entries[0]]
    return {}
