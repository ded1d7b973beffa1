"""Which query answers for which object, decided as in the model's own training."""

from __future__ import annotations

from torch import nn

from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.losses.set_loss import Assignment, SetLoss
from smidgen.models import CATALOGUE, create_criterion


def trained_matching(model: nn.Module) -> Assignment:
    """The rule of the model's criterion for its last decoder layer; the usual matching where there is no such rule."""
    criterion = _set_loss(model)
    return HungarianAssignment() if criterion is None else criterion.assignments["final"]


def trained_quality(model: nn.Module) -> QualityOneToMany | None:
    """The rule by which earlier layers are supervised one to many; None where they are not."""
    criterion = _set_loss(model)
    rules = [] if criterion is None else [criterion.assignments.get(name) for name in ("auxiliary", "quality")]
    return next((rule for rule in rules if isinstance(rule, QualityOneToMany)), None)


def _set_loss(model: nn.Module) -> SetLoss | None:
    if getattr(model, "name", None) not in CATALOGUE or not hasattr(model, "config"):
        return None
    criterion = create_criterion(model)
    return criterion if isinstance(criterion, SetLoss) else None
