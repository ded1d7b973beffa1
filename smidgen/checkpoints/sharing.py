"""Models given to others and taken from them: a folder or a repository of the hub with weights, config and model card.

huggingface_hub's mixin has the same three verbs as methods; here they are functions, so that one implementation serves
every detector and the skeletons know nothing of files (ADR 0030).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.checkpoints.hub import HubApi, fetch, put
from smidgen.checkpoints.layout import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from smidgen.checkpoints.model_card import model_card
from smidgen.checkpoints.native import checkpoint_folder, load, read_description, save

Evaluations = Mapping[str, Mapping[str, Any]]
"""By split what `smidgen evaluate` writes: {"protocol", "metrics", "per_class", ...}."""


def save_pretrained(
    source: nn.Module | Path | str,
    folder: Path | str,
    *,
    evaluations: Evaluations | None = None,
    license: str = "unknown",
    repository: str = "owner/name",
) -> Path:
    """Write model.safetensors, config.json and README.md (the model card) to `folder`.

    source: a model, or a run or checkpoint folder. evaluations: results for the card; None = those that
    `smidgen evaluate` left in the run folder. license: of the weights, an identifier of the hub. repository: where it
    will be found, for the card's examples. A card that is already in `folder`, or else in the checkpoint's folder, is
    kept: people write in it.
    Raises ValueError for a source that is no checkpoint, OSError where the folder cannot be written.
    """
    folder = Path(folder)
    if isinstance(source, nn.Module):
        save(source, folder)
    else:
        _copy(checkpoint_folder(source), folder)
        evaluations = evaluations_of_run(Path(source)) if evaluations is None else evaluations
    if not (folder / CARD_FILE).exists():
        text = model_card(read_description(folder), evaluations or {}, license=license, repository=repository)
        write_atomically(folder / CARD_FILE, lambda place: place.write_text(text, encoding="utf-8"))
    return folder


def from_pretrained(
    name: Path | str,
    *,
    device: torch.device | str = "cpu",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
) -> nn.Module:
    """The model of a folder, or of a repository owner/name of the hub at `revision`, in evaluation mode.

    `smidgen.load` does the same without the hub's options. Raises ValueError that says what is wrong and what to do.
    """
    if Path(name).exists():
        return load(name, device)
    options = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    return load(fetch(str(name), **options), device)  # type: ignore[arg-type]


def push_to_hub(
    source: nn.Module | Path | str,
    repository: str,
    *,
    evaluations: Evaluations | None = None,
    license: str = "unknown",
    private: bool | None = None,
    message: str = "Upload a Smidgen checkpoint",
    api: HubApi | None = None,
) -> str:
    """Upload a model, or a run or checkpoint folder, with its model card; returns the repository's address.

    api: None = huggingface_hub.HfApi, which knows the token of `hf auth login`. The rest is as in `save_pretrained`.
    Raises OSError where the hub cannot be written.
    """
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    with tempfile.TemporaryDirectory() as made:
        folder = save_pretrained(source, Path(made), evaluations=evaluations, license=license, repository=repository)
        put(folder, repository, private=private, message=message, api=api)
    return f"https://huggingface.co/{repository}"


def evaluations_of_run(run: Path) -> dict[str, dict[str, Any]]:
    """What `smidgen evaluate` left in a run folder, by split; a file that is not its own is passed over."""
    found = {}
    for file in sorted(run.glob("*/evaluation.json")):
        try:
            evaluation = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(evaluation, dict) and {"protocol", "metrics"} <= evaluation.keys():
            found[file.parent.name] = evaluation
    return found


def _copy(checkpoint: Path, folder: Path) -> None:
    """The checkpoint's own two files, not read and written again, and its card unless `folder` has one."""
    read_description(checkpoint)
    with_card = (checkpoint / CARD_FILE).is_file() and not (folder / CARD_FILE).exists()
    for name in (WEIGHTS_FILE, CONFIG_FILE, *([CARD_FILE] if with_card else [])):
        if (folder / name).resolve() != (checkpoint / name).resolve():
            write_atomically(folder / name, partial(shutil.copyfile, checkpoint / name))
