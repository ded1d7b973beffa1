"""A detector's backbone from a classifier: the same network without its head, tensor by tensor.

Names are compared without regard to dots and underscores: where timm reads features from a network, it may flatten the
upper modules, so that stages.0 becomes stages_0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from smidgen.checkpoints.classification import Classifier
from smidgen.checkpoints.native import read_weights

_SHOWN = 6
_WRAPPED = "model."
_NORM_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, kw_only=True)
class BackboneReport:
    """What became of a classifier's tensors.

    copied: names in the backbone. left_out: in the classifier; its head and what lies behind the stages that the
    detector reads. fresh: how many tensors of the rest of the detector stay as they were initialized. remark: what else
    should be known, or "".
    """

    source: Path
    classifier: Classifier
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    fresh: int
    remark: str = ""

    def __str__(self) -> str:
        classes = len(self.classifier.class_names)
        trained = f"trained on {classes} classes" if classes else "without a head"
        lines = [
            f"Backbone initialized from {self.source}: {self.classifier.architecture} {trained}, "
            f"{len(self.copied)} tensors copied",
            f"  {len(self.left_out)} left out (head, unread stages): {_listed(self.left_out)}",
            f"  {self.fresh} tensors of the rest of the detector stay fresh",
        ]
        return "\n".join([*lines, *([f"  {self.remark}"] if self.remark else [])])


def initialize_backbone(model: nn.Module, folder: Path, classifier: Classifier) -> BackboneReport:
    """Set the detector's backbone in place from a classifier's folder.

    The network is `model.backbone.body`, or the backbone itself where it has no body. Errors: ValueError where the
    detector has no backbone, or where that is another architecture; nothing is changed then.
    """
    network = _network(model)
    stored = read_weights(folder)
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_NORM_COUNTER)}
    sources = _sources(state, stored)
    _check_architecture(model, classifier, folder, state, stored, sources)
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(stored[sources[name]])
    used = set(sources.values())
    return BackboneReport(
        source=folder,
        classifier=classifier,
        copied=tuple(state),
        left_out=tuple(name for name in stored if name not in used and not name.endswith(_NORM_COUNTER)),
        fresh=len(model.state_dict()) - len(network.state_dict()),
        remark=_remark(model, classifier),
    )


def _network(model: nn.Module) -> nn.Module:
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ValueError(f"expected a detector with a backbone to start from a classifier, got {model.name}")
    body = getattr(backbone, "body", backbone)
    return body if isinstance(body, nn.Module) else backbone


def _sources(state: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in the backbone -> name in the classifier, as far as there is one."""
    wrapped = all(name.startswith(_WRAPPED) for name in state)
    theirs = {_joined(name): name for name in stored}
    ours = {name: _joined(name.removeprefix(_WRAPPED) if wrapped else name) for name in state}
    return {name: theirs[joined] for name, joined in ours.items() if joined in theirs}


def _joined(name: str) -> str:
    return name.replace(".", "_")


def _check_architecture(
    model: nn.Module,
    classifier: Classifier,
    folder: Path,
    state: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    sources: Mapping[str, str],
) -> None:
    """Errors: ValueError naming the tensors that show that these are two architectures."""
    missing = [name for name in state if name not in sources]
    other_shapes = [
        f"{name}: {tuple(stored[source].shape)} in the classifier, {tuple(state[name].shape)} here"
        for name, source in sources.items()
        if stored[source].shape != state[name].shape
    ]
    statistics = _unused_statistics(stored, sources)
    findings = [
        f"{len(names)} {what} ({_listed(names)})"
        for what, names in (
            ("without a counterpart in the classifier", missing),
            ("of another shape", other_shapes),
            ("batch norms of the classifier that are no batch norms here", statistics),
        )
        if names
    ]
    if findings:
        raise ValueError(
            f"expected a classifier with the backbone of {model.name} ({_own_name(model)}), got {folder} with "
            f"{classifier.architecture}, norm={classifier.norm}, options={dict(classifier.options)}: "
            f"{'; '.join(findings)}. Change model.backbone (name, norm, options), or train a classifier with those "
            "of the detector"
        )


def _unused_statistics(stored: Mapping[str, Tensor], sources: Mapping[str, str]) -> list[str]:
    """Running statistics of norms whose scales are used here: there is no such thing in a group norm."""
    used = set(sources.values())
    owners = {name.rpartition(".")[0] for name in used}
    return [
        name for name in stored if name.endswith(_STATISTICS) and name not in used and name.rpartition(".")[0] in owners
    ]


def _own_name(model: nn.Module) -> str:
    config = getattr(getattr(model, "config", None), "backbone", None)
    words = [f"{name}={getattr(config, name)}" for name in ("name", "norm", "options") if hasattr(config, name)]
    return ", ".join(words) or type(_network(model)).__name__


def _remark(model: nn.Module, classifier: Classifier) -> str:
    """Pixels must be normalized, and Strip-MLP's crops be planned, as the features learned them."""
    config = getattr(model, "config", None)
    pixels, body = getattr(config, "preprocessing", None), _network(model)
    remarks = []
    if pixels is not None and (tuple(pixels.mean), tuple(pixels.std)) != (classifier.mean, classifier.std):
        remarks.append(
            f"Warning: the classifier saw pixels of mean {classifier.mean} and std {classifier.std}; set "
            "model.preprocessing.mean and std to them"
        )
    rounding = classifier.options.get("rounding")
    if rounding is not None and rounding != getattr(body, "rounding", rounding):
        remarks.append(
            f"Warning: the weights learned with crops planned by the rounding {rounding!r}; set "
            f"model.backbone.options.rounding={rounding}"
        )
    return "\n  ".join(remarks)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") if names else "none"
