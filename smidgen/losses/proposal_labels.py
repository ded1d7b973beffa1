"""Proposals may be asked only whether something is an object, not which class it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from smidgen.structures import Target


def only_foreground(targets: Sequence[Target]) -> tuple[Target, ...]:
    """Every object has class 0, and proposals are ranked by logit 0 (two-stage Deformable DETR).

    As in the official code the proposals' other logits stay and learn that nothing is ever theirs.
    """
    return tuple(replace(target, labels=torch.zeros_like(target.labels)) for target in targets)
