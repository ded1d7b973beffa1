"""How wrong the class scores are when class and size are one label: small objects may weigh more than large ones.

Boost loss of "Cross-DINO" (equations 4 and 5; no official code exists). The category-size soft label of an object is
its size s (side of the square of its area, as a share of the image's) times 1 at its class; that of a prediction its
predicted size times the class probability p. With u = (predicted size * p)^beta,

    positives  alpha (1 - u)^gamma s^beta (-log p)        negatives  (1 - alpha) p^gamma (-log(1 - p))

A caution about the sign of the effect. The factor s^beta makes the weight of a positive grow with its size; only
(1 - u)^gamma falls with it. At p = 0.1 the weight of a positive relative to focal loss is

    size        0.0078   0.03    0.1     0.3     0.8
    beta 1      0.010    0.037   0.12    0.35    0.84
    beta 0.1    0.20     0.17    0.13    0.096   0.060
    beta 0.05   0.088    0.066   0.047   0.030   0.017

So with beta = 1, the paper's choice for COCO, equation 5 as printed suppresses small objects up to a hundred times,
against the paper's own words; with a small beta it favors them three to five times, and makes every positive 5 to 50
times lighter against the negatives. u (1 - u)^2 has its peak at u = 1/3: small objects are favored where s^beta is
above that. The equation is the default here. Two experiments that are not the paper's: `gt_size_weight=False` leaves
s^beta out, so that the weight falls with size for every beta; `positive_renorm=True` divides the positives' weights by
their mean (without gradient), so that on average a positive weighs alpha, however well it is learned.

What the paper leaves open: the predicted size carries no gradient (a class loss must not inflate boxes), while the
modulating factor's dependence on p does, as in focal loss (`detach_modulator=True` otherwise).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from smidgen.boxes import full_precision
from smidgen.boxes.counted_queries import at_matched_class, counted_logits, counted_queries
from smidgen.boxes.matched_pairs import predicted_boxes, target_boxes
from smidgen.structures import SupervisedSet

# Keeps the logarithm of a degenerate box's size finite.
SMALLEST_SIZE = 1e-6


@dataclass(frozen=True, kw_only=True)
class CategorySizeClassification:
    """Boost loss, named "classification". Applied to decoder layers, proposals and denoising alike; boxes as predicted
    by the set itself.

    beta: how much size counts, in (0, 1]: 1 on COCO (R50, Strip-MLP), 0.1 on COCO with Swin-T, VisDrone and SODA-D,
    0.05 on AI-TOD. ignore_overlap: as in `FocalClassification`. The other options: see the module.
    """

    beta: float = 1.0
    alpha: float = 0.25
    gamma: float = 2.0
    detach_modulator: bool = False
    gt_size_weight: bool = True
    positive_renorm: bool = False
    ignore_overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.beta <= 1:
            raise ValueError(f"expected beta in (0, 1], since 0 silences every positive, got {self.beta}")

    def __call__(self, supervised: SupervisedSet, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Summed over queries and classes, divided by the set's normalizer."""
        counted = counted_queries(supervised, self.ignore_overlap)
        logits = counted_logits(supervised, counted)
        sides = [box_size(boxes(supervised)).to(logits.dtype) for boxes in (predicted_boxes, target_boxes)]
        predicted_size, object_size = (at_matched_class(supervised, logits, side) for side in sides)
        positive = at_matched_class(supervised, logits, 1.0)
        loss = boost_loss(logits, positive, predicted_size, object_size, self)
        return {"classification": (loss * counted[..., None]).sum() / supervised.normalizer}


def boost_loss(
    logits: Float[Tensor, "*shape K"],
    positive: Float[Tensor, "*shape K"],
    predicted_size: Float[Tensor, "*shape K"],
    object_size: Float[Tensor, "*shape K"],
    options: CategorySizeClassification,
) -> Float[Tensor, "*shape K"]:
    """Equation 5, element by element, in the type of `logits`.

    positive: 1 at the matched class, else 0. predicted_size, object_size: sizes of the query's box and of its object,
    read where `positive` (as `box_size` gives them).
    """
    weight = positive_weight(logits, predicted_size, object_size, options)
    if options.positive_renorm:
        weight = weight / _mean_where(weight.detach(), positive)
    # exp of a logarithm in place of a power: its gradient is finite for every exponent and logit.
    unseen = (1 - options.alpha) * torch.exp(options.gamma * F.logsigmoid(logits)) * -F.logsigmoid(-logits)
    return torch.where(positive > 0, options.alpha * weight * -F.logsigmoid(logits), unseen)


def positive_weight(
    logits: Float[Tensor, "*shape K"],
    predicted_size: Float[Tensor, "*shape K"],
    object_size: Float[Tensor, "*shape K"],
    options: CategorySizeClassification,
) -> Float[Tensor, "*shape K"]:
    """(1 - u)^gamma s^beta: what a positive weighs beside alpha."""
    modulation = modulating_factor(predicted_label(logits, predicted_size, options.beta), options.gamma)
    modulation = modulation.detach() if options.detach_modulator else modulation
    return modulation * object_label(object_size, options.beta) if options.gt_size_weight else modulation


def predicted_label(
    logits: Float[Tensor, "*shape"], size: Float[Tensor, "*shape"], beta: float
) -> Float[Tensor, "*shape"]:
    """(size * p)^beta, in [0, 1] for sizes in [0, 1]; no gradient into the size."""
    return torch.exp(beta * (size.detach().clamp(min=SMALLEST_SIZE).log() + F.logsigmoid(logits)))


def object_label(size: Float[Tensor, "*shape"], beta: float) -> Float[Tensor, "*shape"]:
    """size^beta: an object's soft label at its class."""
    return size.clamp(min=SMALLEST_SIZE) ** beta


def modulating_factor(label: Float[Tensor, "*shape"], gamma: float) -> Float[Tensor, "*shape"]:
    """(1 - label)^gamma: little is left to learn where the label is near 1."""
    # The floor matters for exponents below 1 only, whose gradient has no bound at 0.
    return (1 - label).clamp(min=1e-12) ** gamma


def box_size(boxes_cxcywh: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
    """Square root of the area, without gradient: of boxes in [0, 1] a share of the image's."""
    sides = full_precision(boxes_cxcywh.detach()[..., 2:])
    return sides.clamp(min=0).prod(-1).sqrt()


def _mean_where(values: Float[Tensor, "*shape"], positive: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean over this process's positives, as far as it can be divided by; where there are none, nobody reads it."""
    mean = (values * positive).sum() / positive.sum().clamp(min=1)
    return mean.clamp(min=SMALLEST_SIZE)
