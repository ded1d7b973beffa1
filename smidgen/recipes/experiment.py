"""A run as one frozen value: which system, on what data, trained and judged how. Written down, it can be run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import Augmentation, TilingConfig
from smidgen.models import configure
from smidgen.recipes.from_scratch import default_training
from smidgen.recipes.overrides import changed
from smidgen.training import TrainingConfig

SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and what may happen to them in training. All fields change results.

    path: folder or COCO json. layout: None = recognized. validation_split: None = no evaluation during training.
    first_images: use only the first so many images of each split; None = all. tiling: train on tiles of the images, cut
    while training; None = whole images.
    """

    path: str = ""
    layout: str | None = None
    train_split: str = "train"
    validation_split: str | None = "val"
    first_images: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    tiling: TilingConfig | None = None

    def __post_init__(self) -> None:
        if self.first_images is not None and self.first_images < 1:
            raise ValueError(f"expected data.first_images to be at least 1, or none, got {self.first_images}")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How the model is judged during training and after it.

    Changes results: protocol (name, name@version, or a YAML file). bootstrap: resamplings of the images for 95 %
    intervals of the last evaluation; 0 = none. Changes speed only: batch_size.
    """

    protocol: str = "coco"
    bootstrap: int = 0
    batch_size: int = 2


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """system: catalogue name. model: that system's configuration; its num_classes is taken from the data."""

    system: str
    model: Any
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    pretrained: bool = False


def default_experiment(system: str) -> Experiment:
    """A system as its paper has it, with default data, training and evaluation. ValueError names the nearest system."""
    model = configure(system, {"num_classes": 1})
    return Experiment(system=system, model=model, training=default_training(system))


def with_changes(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with (nested) fields changed; unknown fields and wrong types raise ValueError."""
    if SYSTEM in changes and changes[SYSTEM] != experiment.system:
        raise ValueError(f"system cannot be changed by --set: name {changes[SYSTEM]!r} as the MODEL instead")
    return changed(experiment, changes)


def write_experiment(experiment: Experiment, file: Path) -> None:
    """Write every field as YAML, so that later defaults do not change an earlier run."""
    text = yaml.safe_dump(as_plain(experiment), sort_keys=False, allow_unicode=True)
    write_atomically(file, lambda partial: partial.write_text(text, encoding="utf-8") and None)


def read_experiment(file: Path) -> Experiment:
    """An experiment from YAML; fields left out have the system's defaults."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get(SYSTEM), str):
        raise ValueError(
            f"expected an experiment in {file}, with the field `system` and others as in a run's experiment.yaml"
        )
    try:
        return with_changes(default_experiment(document[SYSTEM]), document)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def as_plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as mappings, lists and strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
