"""Fine-tuning: take over all that fits from a checkpoint of other classes, and the rows of classes both know by name.

Which axis of a tensor counts classes is not declared anywhere; it is read off two models that differ in nothing but
their number of classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.checkpoints.backbone_initialization import BackboneReport, initialize_backbone
from smidgen.checkpoints.classification import read_classifier
from smidgen.checkpoints.native import checkpoint_folder, classes_of, is_shared, read_description, read_weights
from smidgen.models import create_model
from smidgen.structures import Classes

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class InitializationReport:
    """Names of tensors by what became of them.

    copied: taken over whole. by_class: class heads and label embeddings, whose rows of `kept_classes` were taken over.
    fresh: left as they were initialized. unused: in the checkpoint, without a place here.
    """

    source: Path
    copied: tuple[str, ...]
    by_class: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    kept_classes: tuple[str, ...]

    def __str__(self) -> str:
        kept = _listed(self.kept_classes) if self.kept_classes else "none"
        lines = [
            f"Initialized from {self.source}: {len(self.copied)} tensors copied",
            f"  {len(self.by_class)} made again for the classes here; shared classes kept: {kept}",
        ]
        lines += [f"  {len(self.fresh)} stay fresh: {_listed(self.fresh)}"] if self.fresh else []
        lines += [f"  {len(self.unused)} of it have no place here: {_listed(self.unused)}"] if self.unused else []
        return "\n".join(lines)


@dataclass(frozen=True)
class ClassAxis:
    """Axis `axis` of a tensor has one entry per class and then `extra` entries that belong to none."""

    axis: int
    extra: int


def initialize(model: nn.Module, path: Path | str) -> InitializationReport | BackboneReport:
    """Set the model's tensors in place from a checkpoint or run folder of any classes, or only its backbone's from that
    of an image classifier.

    Errors: ValueError where there is no checkpoint, or where nothing of it fits, or a classifier is not the backbone's.
    """
    folder = checkpoint_folder(path)
    classifier = read_classifier(folder)
    return initialize_backbone(model, folder, classifier) if classifier else _from_detector(model, folder)


def _from_detector(model: nn.Module, folder: Path) -> InitializationReport:
    stored, other = read_weights(folder), classes_of(read_description(folder))
    state = model.state_dict()
    here = model.classes
    assert isinstance(here, Classes)
    axes = _class_axes(model, state, stored, here, other)
    fitting = [name for name in state if name in stored and (name in axes or state[name].shape == stored[name].shape)]
    matches = {name: axes.get(name) for name in fitting}
    if not matches:
        raise ValueError(f"nothing of {folder} fits {model.name}: is it a checkpoint of another system?")
    with torch.no_grad():
        for name, axis in matches.items():
            _take_over(state[name], stored[name], axis, here, other)
    return _report(folder, state, stored, matches, _shared_names(here, other))


def _take_over(mine: Tensor, theirs: Tensor, axis: ClassAxis | None, here: Classes, other: Classes) -> None:
    """Copy a tensor, or of one that counts classes the entries of shared classes and those of no class."""
    if axis is None:
        mine.copy_(theirs)
        return
    pairs = [(here.names.index(name), other.names.index(name)) for name in _shared_names(here, other)]
    pairs += [(len(here) + index, len(other) + index) for index in range(axis.extra)]
    for to, of in pairs:
        mine.select(axis.axis, to).copy_(theirs.select(axis.axis, of))


def _shared_names(here: Classes, other: Classes) -> tuple[str, ...]:
    known = set(other.names)
    return tuple(name for name in dict.fromkeys(here.names) if name in known)


def _class_axes(
    model: nn.Module, state: Mapping[str, Tensor], stored: Mapping[str, Tensor], here: Classes, other: Classes
) -> dict[str, ClassAxis]:
    """The tensors whose entries must be matched by class name; none where both have the same classes in one order."""
    if here.names == other.names:
        return {}
    if len(here) != len(other):
        return _compared(state, stored, len(here), len(other))
    # As many classes, but others: only a model with one class more shows where they are counted.
    return _compared(state, _with_classes(model, len(here) + 1), len(here), len(here) + 1)


def _with_classes(model: nn.Module, count: int) -> dict[str, Tensor]:
    """Tensors of a model like this one, for another number of classes."""
    settings: dict[str, Any] = asdict(model.config)  # type: ignore[call-overload]
    del settings["num_classes"]
    return dict(create_model(str(model.name), num_classes=count, **settings).state_dict())


def _compared(
    state: Mapping[str, Tensor], others: Mapping[str, Tensor], count: int, other_count: int
) -> dict[str, ClassAxis]:
    """Tensors of which exactly one axis differs, by as much as the numbers of classes do."""
    axes = {}
    for name in state.keys() & others.keys():
        mine, theirs = state[name].shape, others[name].shape
        different = [axis for axis in range(len(mine)) if len(mine) == len(theirs) and mine[axis] != theirs[axis]]
        if len(different) == 1 and mine[different[0]] - theirs[different[0]] == count - other_count:
            axes[name] = ClassAxis(different[0], mine[different[0]] - count)
    return {name: axis for name, axis in axes.items() if axis.extra >= 0}


def _report(
    folder: Path,
    state: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    matches: Mapping[str, ClassAxis | None],
    kept: tuple[str, ...],
) -> InitializationReport:
    fresh = [name for name in state if name not in matches and not is_shared(name, state, matches)]
    return InitializationReport(
        source=folder,
        copied=tuple(name for name, axis in matches.items() if axis is None),
        by_class=tuple(name for name, axis in matches.items() if axis is not None),
        fresh=tuple(fresh),
        unused=tuple(name for name in stored if name not in matches),
        kept_classes=kept,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
