"""The two sides of each matched pair of a supervised set, row by row, in full precision."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.boxes.precision import full_precision
from smidgen.structures import SupervisedSet


def predicted_boxes(supervised: SupervisedSet) -> Float[Tensor, "M 4"]:
    """Predicted boxes of the pairs, cxcywh in [0, 1], with their gradient."""
    matches = supervised.matches
    return full_precision(supervised.predictions.boxes_cxcywh[matches.image, matches.query])


def target_boxes(supervised: SupervisedSet) -> Float[Tensor, "M 4"]:
    """Objects' boxes of the pairs, cxcywh in [0, 1]."""
    boxes = torch.cat([target.boxes_cxcywh for target in supervised.targets])
    return full_precision(boxes[supervised.matches.flat_target(supervised.targets)])


def target_labels(supervised: SupervisedSet) -> Int[Tensor, " M"]:
    """Objects' classes of the pairs."""
    labels = torch.cat([target.labels for target in supervised.targets])
    return labels[supervised.matches.flat_target(supervised.targets)]
