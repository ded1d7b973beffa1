"""What proposals are asked: which class each object has, or only that it is an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch

from smidgen.structures import Target

LabelRule: TypeAlias = Callable[[Sequence[Target]], tuple[Target, ...]]


def keep_classes(targets: Sequence[Target]) -> tuple[Target, ...]:
    """Proposals are supervised with the objects' classes (DINO, Salience DETR)."""
    return tuple(targets)


def only_foreground(targets: Sequence[Target]) -> tuple[Target, ...]:
    """Every object has class 0, and proposals are ranked by logit 0 (two-stage Deformable DETR).

    As in the official code the proposals' other logits stay and learn that nothing is ever theirs.
    """
    return tuple(replace(target, labels=torch.zeros_like(target.labels)) for target in targets)
