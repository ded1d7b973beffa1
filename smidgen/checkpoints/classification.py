"""A classifier on disk, whose features a detector may start from: safetensors and JSON, never pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors.torch import save_model
from timm.layers import GroupNorm  # type: ignore[attr-defined]
from torch import nn

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.checkpoints.native import CONFIG_FILE, WEIGHTS_FILE, checkpoint_folder, load_weights

_TASK = "image_classification"


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """What config.json holds and what rebuilds the network. architecture, options: of timm.create_model.

    norm: "group" = built with group norms. mean, std: per channel, of RGB pixels scaled to [0, 1]. image_size: side in
    pixels of the square images it was trained on.
    """

    architecture: str
    class_names: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    norm: Literal["batch", "group"] = "batch"
    options: Mapping[str, Any] = field(default_factory=dict)


def create_classifier(classifier: Classifier) -> nn.Module:
    """The network `pixels -> logits` with fresh weights. Errors: ValueError for an unknown name or option."""
    _register_own_architectures()
    options = dict(classifier.options)
    if classifier.norm == "group":
        options["norm_layer"] = partial(GroupNorm, num_groups=options.pop("num_groups", 8))
    if not timm.is_model(classifier.architecture):
        raise ValueError(
            f"expected a model name of timm, or strip_mlp_t and its sizes, got {classifier.architecture!r}; "
            "see timm.list_models()"
        )
    try:
        network: nn.Module = timm.create_model(
            classifier.architecture, pretrained=False, num_classes=len(classifier.class_names), **options
        )
    except TypeError as error:
        raise ValueError(
            f"{classifier.architecture} cannot be built with norm={classifier.norm!r} and "
            f"options={dict(classifier.options)}: {error}; change model.norm or model.options"
        ) from error
    return network


def save_classifier(
    network: nn.Module, classifier: Classifier, folder: Path, metrics: Mapping[str, float] | None = None
) -> Path:
    """Write both files; metrics are kept for information. Errors: OSError (earlier files kept)."""
    description = {
        "task": _TASK,
        **asdict(classifier),
        "metrics": None if metrics is None else dict(metrics),
        "versions": {name: version(name) for name in ("smidgen", "timm", "torch")},
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / WEIGHTS_FILE, lambda partial_file: save_model(network, str(partial_file)))
    write_atomically(folder / CONFIG_FILE, lambda partial_file: partial_file.write_text(text, encoding="utf-8"))
    return folder


def load_classifier(path: Path | str, device: torch.device | str = "cpu") -> tuple[nn.Module, Classifier]:
    """The network in evaluation mode and its description, from a checkpoint or run folder.

    Errors: ValueError that says what is wrong with the folder.
    """
    folder = checkpoint_folder(path)
    classifier = read_classifier(folder)
    if classifier is None:
        raise ValueError(f"expected a classifier in {folder}, got another checkpoint; smidgen.load reads detectors")
    network = create_classifier(classifier)
    load_weights(network, folder)
    return network.to(device).eval(), classifier


def read_classifier(folder: Path) -> Classifier | None:
    """The description of a classifier's folder, or None where it holds something else. Errors: ValueError."""
    try:
        description = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if not isinstance(description, dict) or description.get("task") != _TASK:
            return None
        known: dict[str, Any] = {each.name: description[each.name] for each in fields(Classifier)}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} is damaged ({error}); use another copy of the checkpoint") from error
    known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    return Classifier(**known)


def _register_own_architectures() -> None:
    """timm knows a name once the module that registers it was imported."""
    import_module("smidgen.features.strip_mlp")
