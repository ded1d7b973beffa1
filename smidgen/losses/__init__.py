"""How wrong the predictions are: terms for supervised sets, and the set loss that makes the sets."""

from smidgen.losses.box_regression import GIoULoss, L1Loss, PairWeighting
from smidgen.losses.category_size import CategorySizeClassification
from smidgen.losses.classification import FocalClassification, VarifocalClassification, varifocal_loss
from smidgen.losses.object_count import ObjectCountLoss, count_classes
from smidgen.losses.proposal_labels import only_foreground
from smidgen.losses.scale_weighting import ScaleWeighting
from smidgen.losses.set_loss import Assignment, EvidenceTerm, LabelRule, SetLoss, SetTerm, mean_object_count

__all__ = [
    "Assignment",
    "CategorySizeClassification",
    "EvidenceTerm",
    "FocalClassification",
    "GIoULoss",
    "L1Loss",
    "LabelRule",
    "ObjectCountLoss",
    "PairWeighting",
    "ScaleWeighting",
    "SetLoss",
    "SetTerm",
    "VarifocalClassification",
    "count_classes",
    "mean_object_count",
    "only_foreground",
    "varifocal_loss",
]
