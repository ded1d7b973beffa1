"""Which query answers for which object, decided as in the model's own training."""

from __future__ import annotations

from torch import nn

from smidgen.assignment import HungarianAssignment
from smidgen.losses.set_loss import Assignment, SetLoss
from smidgen.models import CATALOGUE, create_criterion


def trained_matching(model: nn.Module) -> Assignment:
    """The rule of the model's criterion for its last decoder layer; the usual matching where there is no such rule."""
    if getattr(model, "name", None) in CATALOGUE and hasattr(model, "config"):
        criterion = create_criterion(model)
        if isinstance(criterion, SetLoss):
            return criterion.assignments["final"]
    return HungarianAssignment()
